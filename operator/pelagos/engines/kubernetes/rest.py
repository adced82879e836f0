"""The Kubernetes API over aiohttp: one request in, status and JSON out. Used where the caller needs the answer's status.

The official client would add more to the operator's memory than everything else together, and would block threads.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pydantic_core

from pelagos.ports.errors import OutageError, TooLargeError
from pelagos.ports.leadership import Guard, unguarded

SYSTEM = "kubernetes"
TIMEOUT = 10.0
_TOO_MANY, _TOO_LARGE = 429, 413
_LONGEST_LINE = 2**22
"""Longest watch event, in bytes; etcd stores no object of more than 1.5 MiB."""
_NOT_STORED = ("too large", "larger than max")
"""Wording of errors about objects that are too large for etcd, or for the API server's connection to it."""


@dataclass(frozen=True)
class Answer:
    """The API server's answer; ``body`` is empty when it was not a JSON object."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The server's own description of a failure; the status when it gave none."""
        return str(self.body.get("message") or self.status)


class KubernetesRest:
    """A client of one API server. ``token_file`` is read again for every call, because service account tokens expire.

    ``guard`` is asked before every request that changes something, and raises when this operator does not lead.
    """

    def __init__(
        self,
        server: str,
        *,
        tls: ssl.SSLContext | None,
        token: str | None = None,
        token_file: Path | None = None,
        guard: Guard = unguarded,
    ) -> None:
        self.server = server.rstrip("/")
        self._tls = tls
        self._token = token
        self._token_file = token_file
        self._guard = guard
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, *, timeout: float = TIMEOUT) -> Answer:
        """GET ``path``. Raises OutageError when no answer comes within ``timeout`` seconds, or one that says "not now"."""
        return await self.ask("GET", path, timeout=timeout)

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Send a request. Refusals (400 to 428) are returned as answers; anything that a retry may fix raises OutageError.

        Raises TooLargeError when the object is too large for the server to store.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        limit = aiohttp.ClientTimeout(total=timeout)
        headers = self._headers() | ({"Content-Type": content} if body is not None else {})
        sent = _encoded(body) if body is not None else None
        if method != "GET":
            self._guard(SYSTEM, f"{method} {_kind(path)}")
        try:
            async with self._session.request(
                method, self.server + path, data=sent, headers=headers, ssl=self._tls or True, timeout=limit
            ) as answer:
                status, found = answer.status, _parsed(await answer.read(), answer.status)
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise OutageError(SYSTEM, f"{method} {path}: {error or type(error).__name__}") from error
        told = Answer(status, found)
        # The API server reports an object that etcd refuses as a 5xx, which would otherwise count as an outage and be retried.
        if status == _TOO_LARGE or (status >= 500 and any(words in told.message for words in _NOT_STORED)):
            raise TooLargeError(SYSTEM, f"{method} {path}: {status} {told.message}")
        if status >= 500 or status == _TOO_MANY:
            raise OutageError(SYSTEM, f"{method} {path}: {status} {told.message}")
        return told

    async def read(self, path: str, *, most: int, timeout: float = TIMEOUT) -> bytes | None:
        """The first ``most`` bytes of a response that is not JSON, such as a log; None when it does not exist or is refused.

        Raises OutageError, as ``get`` does.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        limit, found = aiohttp.ClientTimeout(total=timeout), bytearray()
        try:
            async with self._session.get(
                self.server + path, headers=self._headers(), ssl=self._tls or True, timeout=limit
            ) as answer:
                if answer.status >= 500 or answer.status == _TOO_MANY:
                    raise OutageError(SYSTEM, f"GET {path}: {answer.status}")
                if answer.status >= 400:
                    return None
                while len(found) < most and (chunk := await answer.content.read(most - len(found))):
                    found += chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutageError(SYSTEM, f"GET {path}: {error or type(error).__name__}") from error
        return bytes(found)

    async def events(self, path: str, *, silence: float) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of a watch until the server ends it. A refusal is yielded too, as an ``ERROR`` event with a Status.

        Raises OutageError when the connection breaks, or when nothing arrives for ``silence`` seconds.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        limit = aiohttp.ClientTimeout(total=None, connect=TIMEOUT, sock_read=silence)
        try:
            async with self._session.get(
                self.server + path,
                headers=self._headers(),
                ssl=self._tls or True,
                timeout=limit,
                read_bufsize=_LONGEST_LINE,
            ) as answer:
                if answer.status >= 400:
                    told = _parsed(await answer.read(), answer.status)
                    yield {"type": "ERROR", "object": {**told, "code": answer.status}}
                    return
                async for line in answer.content:
                    event = pydantic_core.from_json(line)
                    if isinstance(event, dict):
                        yield event
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise OutageError(SYSTEM, f"GET {path}: {error or type(error).__name__}") from error

    def _headers(self) -> dict[str, str]:
        try:
            token = self._token_file.read_text(encoding="utf-8").strip() if self._token_file else self._token
        except (OSError, ValueError) as error:
            raise OutageError(SYSTEM, f"the token file {self._token_file} cannot be read: {error}") from error
        accept = {"Accept": "application/json"}
        return accept | ({"Authorization": f"Bearer {token}"} if token else {})


def _kind(path: str) -> str:
    """The kind that a path is about, without object names: ``deployments``. Few enough values for a metric label."""
    parts = path.partition("?")[0].split("/")
    root = 3 if parts[1] == "api" else 4
    start = parts.index("namespaces") + 2 if "namespaces" in parts else root
    return parts[start] if start < len(parts) else parts[-1]


def _encoded(body: Mapping[str, Any]) -> bytes:
    """``body`` as JSON."""
    try:
        return pydantic_core.to_json(body)
    except ValueError:
        return json.dumps(body).encode()  # It writes halves of surrogate pairs, which text from users' files may have.


def _parsed(text: bytes, status: int) -> dict[str, Any]:
    """The JSON object in ``text``. A refusal in plain text, as for paths that are not served, gives its start as ``message``."""
    try:
        found = pydantic_core.from_json(text)
    except ValueError:
        if status < 400:
            raise
        return {"message": text.decode(errors="replace").strip()[:200]}
    return found if isinstance(found, dict) else {}
