"""OSCAR's REST API over aiohttp: one request in, its answer or one of our errors out.

Used by engine and invocations. Routes, fields and wording are those of main.go, pkg/handlers and pkg/types of
https://github.com/grycap/oscar (Apache-2.0), 4.1. Errors are plain text, and OSCAR answers 500 to many requests that a retry does
not help. Logins that were sent, and tokens that were received, never appear in a message.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from pelagos.engines import credentials
from pelagos.engines.credentials import Trusted
from pelagos.engines.oscar.tokens import Provider, Tokens
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.leadership import Guard, unguarded
from pelagos_contract.text import shown

SYSTEM = "OSCAR"
TIMEOUT = 30.0
"""Seconds. Long, because OSCAR restarts its MinIO server to create or delete a service."""
LARGEST = 32 * 1024 * 1024
"""Largest answer in bytes, such as the list of all services of a cluster."""
CA_FILE = "PELAGOS_OSCAR_CA_FILE"
LOG_LINES = 200
MOST_PAGES = 20
"""Most pages of jobs that are read; OSCAR lists a few at a time."""
_NOT_NOW = frozenset({408, 425, 429, 499})
_FOR_GOOD = re.compile(
    r"is invalid|[Ii]nvalid value|quantities must match|NOT admitted|[Ii]nvalid workload|exceeded quota|must be equal to"
)
"""Wording in answers of status 500 about objects that Kubernetes refuses; a retry does not help."""
_EXISTS = re.compile(r"already exists")


class ExistsError(RejectedError):
    """A service or bucket of this name already exists."""


@dataclass(frozen=True)
class Access:
    """Address and credentials of a cluster. Files are read at every call, because Secrets are rotated while the operator runs.

    A token must be from an OpenID Connect provider that the cluster trusts; user and password are its administrator's.
    """

    url: str
    username_file: Path | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    provider: Provider | None = None
    """The provider that issues access tokens for a refresh token; None: not used."""

    def authorization(self) -> str:
        """The Authorization header; "" when nothing is configured. Raises RejectedError for a missing or invalid file."""
        if self.token_file is not None:
            return f"Bearer {secret(self.token_file, 'PELAGOS_OSCAR_TOKEN_FILE')}"
        if self.username_file is None or self.password_file is None:
            return ""
        username = secret(self.username_file, "PELAGOS_OSCAR_USERNAME_FILE")
        return aiohttp.encode_basic_auth(
            username, secret(self.password_file, "PELAGOS_OSCAR_PASSWORD_FILE"), encoding="utf-8"
        )

    @property
    def hint(self) -> str:
        """What to check when OSCAR refuses the credentials."""
        if self.provider is not None:
            return (
                "check whether the cluster trusts the provider PELAGOS_OSCAR_TOKEN_URL, and whether you are in its VO"
            )
        if self.token_file is not None:
            return "check the token in PELAGOS_OSCAR_TOKEN_FILE: it may have expired"
        return "check PELAGOS_OSCAR_USERNAME_FILE and PELAGOS_OSCAR_PASSWORD_FILE"


class OscarRest:
    """A connection to one cluster. Safe for concurrent use within one event loop.

    Raises OutageError when there is no answer, or one that may differ later; RejectedError when a person must change something.
    ``guard`` is asked before every request that changes something.
    """

    def __init__(self, access: Access, *, guard: Guard = unguarded, timeout: float = TIMEOUT) -> None:
        self.access = access
        self._guard = guard
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self.trusted = Trusted(SYSTEM, access.ca_file, CA_FILE)
        self._tokens = Tokens(access.provider, secret) if access.provider is not None else None

    async def info(self) -> dict[str, Any]:
        """OSCAR's versions; needs a valid login."""
        return _mapping(await self._json("GET", "/system/info"))

    async def services(self) -> list[dict[str, Any]]:
        """All services that we may see."""
        found = await self._json("GET", "/system/services")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    async def service(self, name: str) -> dict[str, Any] | None:
        """A service with its deployment's state; None when it does not exist. Raises RejectedError if we may not see it."""
        path = f"/system/services/{quote(name)}?include=deployment"
        found = await self._json("GET", path, absent=True)
        if found is not None and not isinstance(found, dict):
            raise OutageError(SYSTEM, f"{self.access.url}{path}: the answer is not a service")
        return found

    async def logs(self, name: str) -> list[str]:
        """The last log lines of an exposed service's containers, including ended ones; empty when there are none."""
        path = f"/system/services/{quote(name)}/deployment/logs?tailLines={LOG_LINES}"
        entries = _mapping(await self._json("GET", path, absent=True)).get("entries")
        told = entries if isinstance(entries, list) else []
        return [str(entry.get("message", "")) for entry in told if isinstance(entry, dict)]

    async def create(self, service: dict[str, Any]) -> None:
        """Create a service. Raises ExistsError when the name is taken."""
        await self._change("POST", "/system/services", service)

    async def update(self, service: dict[str, Any]) -> None:
        """Change a service in place: nothing of it is deleted. Its token may change."""
        await self._change("PUT", "/system/services", service)

    async def lead(self, name: str, where: str) -> None:
        """``stop``, ``start`` or ``restart`` an exposed service."""
        await self._change("POST", f"/system/services/{quote(name)}/{where}")

    async def delete(self, name: str) -> None:
        """Delete a service; no effect when there is none. OSCAR deletes its input and output buckets too: ours have none."""
        await self._change("DELETE", f"/system/services/{quote(name)}", absent=True)

    async def has_bucket(self, bucket: str) -> bool:
        """Whether OSCAR's MinIO has this bucket, and we may see it."""
        return await self._json("GET", f"/system/buckets/{quote(bucket)}", absent=True) is not None

    async def make_bucket(self, bucket: str) -> None:
        """Create a private bucket that belongs to no service. Raises ExistsError when the name is taken."""
        await self._change("POST", "/system/buckets", {"bucket_name": bucket, "visibility": "private"})

    async def signed(self, bucket: str, key: str, operation: str, seconds: int) -> str:
        """A MinIO address by which anyone can ``upload`` or ``download`` the object for ``seconds``."""
        path = f"/system/buckets/{quote(bucket)}/presign"
        body = {"object_key": key, "operation": operation, "expires_in": seconds}
        status, content = await self._exchange("POST", path, body)
        self._require("POST", path, status, content)
        try:
            return str(json.loads(content)["url"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise OutageError(SYSTEM, f"{self.access.url}{path}: the answer has no address") from None

    async def invoke(self, name: str, token: str, event: str) -> None:
        """Start a job of the service. ``token`` is the service's. OSCAR does not say which job it creates."""
        path = f"/job/{quote(name)}"
        self._guard("oscar", f"POST {path}")
        status, content = await self._exchange("POST", path, event, f"Bearer {token}")
        self._require("POST", path, status, content)

    async def jobs(self, name: str) -> dict[str, dict[str, Any]]:
        """The jobs of a service by name, with their status; OSCAR no longer lists those that ended long ago."""
        found: dict[str, dict[str, Any]] = {}
        page = ""
        for _ in range(MOST_PAGES):
            path = f"/system/logs/{quote(name)}?page={quote(page, safe='')}"
            told = _mapping(await self._json("GET", path, absent=True))
            jobs = _mapping(told.get("jobs"))
            found |= {str(job): each for job, each in jobs.items() if isinstance(each, dict)}
            page = str(told.get("next_page") or "")
            if not page:
                break
        return found

    async def job_log(self, name: str, job: str) -> str:
        """The log of a job; "" when OSCAR no longer has it."""
        path = f"/system/logs/{quote(name)}/{quote(job)}"
        status, content = await self._exchange("GET", path, None)
        return content.decode(errors="replace") if status == HTTPStatus.OK else ""

    async def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _change(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, absent: bool = False
    ) -> None:
        # Asked at the last moment: leadership may have moved since the pass began.
        self._guard("oscar", f"{method} {path.split('?', maxsplit=1)[0]}")
        status, content = await self._exchange(method, path, body)
        if not (absent and status == HTTPStatus.NOT_FOUND):
            self._require(method, path, status, content)

    async def _json(self, method: str, path: str, *, absent: bool = False) -> Any:
        status, content = await self._exchange(method, path, None)
        if absent and status == HTTPStatus.NOT_FOUND:
            return None
        self._require(method, path, status, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            hint = "is PELAGOS_OSCAR_URL that of OSCAR, and not of a page in front of it?"
            raise OutageError(SYSTEM, f"{self.access.url}{path}: the answer is not JSON; {hint}") from None

    async def _exchange(
        self, method: str, path: str, body: dict[str, Any] | str | None, authorization: str = ""
    ) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url, authorization = f"{self.access.url}{path}", authorization or await self._authorization()
        sent = {"data": body.encode()} if isinstance(body, str) else {"json": body}
        headers = {"Authorization": authorization} if authorization else {}
        try:
            async with self._session.request(
                method, url, headers=headers, ssl=self.trusted.tls(), allow_redirects=False, **sent
            ) as answer:
                content = bytearray()
                async for part in answer.content.iter_any():
                    content += part
                    if len(content) > LARGEST:
                        raise OutageError(SYSTEM, f"{url}: the answer has more than {LARGEST} bytes")
                found = bytes(content)
                return answer.status, found if answer.status < 400 else credentials.scrubbed(found, authorization)
        except TimeoutError:
            raise OutageError(SYSTEM, f"{url}: no answer within {self._timeout.total:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            message = f"its TLS certificate is not trusted; name its certificate authority in {CA_FILE}"
            raise OutageError(SYSTEM, f"{url}: {message}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise OutageError(SYSTEM, f"{url}: {error or type(error).__name__}") from error

    async def _authorization(self) -> str:
        if self._tokens is None:
            return self.access.authorization()
        # The provider is not part of the cluster: verify its certificate by the system's authorities.
        return f"Bearer {await self._tokens.current(True)}"

    def _require(self, method: str, path: str, status: int, content: bytes) -> None:
        """Raise OutageError, ExistsError or RejectedError unless the status means success."""
        if status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
            return
        said = shown(" ".join(content[:1000].decode(errors="replace").split()))[:400]
        what = f"{method} {path.split('?', maxsplit=1)[0]} at {self.access.url}: HTTP {status} {said}".rstrip()
        if status == HTTPStatus.UNAUTHORIZED:
            if self._tokens is not None:
                self._tokens.forget()
            raise RejectedError(SYSTEM, f"{what}; {self.access.hint}")
        if status == HTTPStatus.CONFLICT or (status == HTTPStatus.BAD_REQUEST and _EXISTS.search(said)):
            raise ExistsError(SYSTEM, what)
        if status < 400 or status in _NOT_NOW or (status >= 500 and not _FOR_GOOD.search(said)):
            # Includes a redirect to a login, and a proxy that cannot reach OSCAR.
            raise OutageError(SYSTEM, what)
        raise RejectedError(SYSTEM, what)


def secret(file: Path, setting: str) -> str:
    """The content of a mounted Secret. Raises RejectedError."""
    return credentials.secret(SYSTEM, file, setting)


def _mapping(found: Any) -> dict[str, Any]:
    """``found`` if it is a JSON object, else an empty one."""
    return found if isinstance(found, dict) else {}
