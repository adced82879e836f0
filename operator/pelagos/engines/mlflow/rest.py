"""MLflow's REST API over aiohttp: one request in, its JSON or one of our errors out.

Used by tracking and registry. The mlflow package is not used: importing it takes seconds and 176 MB, and its client blocks for
minutes when the server is down. API: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from pelagos.api import reasons
from pelagos.engines import credentials
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.leadership import unguarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pelagos.ports.leadership import Guard
    from pelagos.settings import Settings

    Observe = Callable[[str, str, float, str | None], None]
    """Called after every request, with system, operation, seconds, and "outage", "rejected" or None."""

SYSTEM = "MLflow"
TIMEOUT = 10.0
_RETRIABLE = frozenset({408, 425, 429, 499})
"""Client errors that mean "not now"."""
_FULL = re.compile(r"database or disk is full|No space left on device|Disk quota exceeded")
"""Errors of databases and disks that are full, as MLflow passes them on."""
_UNIQUE = re.compile(r"UNIQUE constraint failed|violates unique constraint|Duplicate entry|unique index", re.IGNORECASE)
"""Errors of databases when somebody else created the same row at the same time; MLflow passes them on as a bad request."""


class AbsentError(RejectedError):
    """MLflow has no such run, experiment, model, version or alias."""


class ExistsError(RejectedError):
    """MLflow already has an object of this name."""


@dataclass(frozen=True)
class Access:
    """Credentials for a server. Files are read at every call, because Secrets are rotated while the operator runs.

    The token is sent as a bearer token, user and password as basic authentication; none of them appears in messages.
    """

    username_file: Path | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Access:
        """The credentials that the installation's settings name."""
        return cls(
            settings.tracking_username_file,
            settings.tracking_password_file,
            settings.tracking_token_file,
            settings.tracking_ca_file,
        )

    def authorization(self) -> str:
        """The Authorization header; "" when nothing is configured. Raises RejectedError for a missing or empty file."""
        if self.token_file:
            return f"Bearer {_secret(self.token_file, 'PELAGOS_TRACKING_TOKEN_FILE')}"
        if self.username_file is None:
            return ""
        username = _secret(self.username_file, "PELAGOS_TRACKING_USERNAME_FILE")
        password = _secret(self.password_file, "PELAGOS_TRACKING_PASSWORD_FILE") if self.password_file else ""
        return aiohttp.encode_basic_auth(username, password, "utf-8")

    @property
    def hint(self) -> str:
        """What to check when the server refuses the credentials."""
        if self.token_file:
            return "check the token in PELAGOS_TRACKING_TOKEN_FILE: it may have expired"
        if self.username_file:
            return (
                "check PELAGOS_TRACKING_USERNAME_FILE and PELAGOS_TRACKING_PASSWORD_FILE, and the rights of that user"
            )
        return "set PELAGOS_TRACKING_TOKEN_FILE, or PELAGOS_TRACKING_USERNAME_FILE and PELAGOS_TRACKING_PASSWORD_FILE"


class MlflowRest:
    """A connection to one MLflow server. Safe for concurrent use within one event loop.

    ``guard`` is asked before every request that changes something.
    """

    def __init__(
        self,
        uri: str,
        *,
        access: Access | None = None,
        observe: Observe | None = None,
        timeout: float = TIMEOUT,
        guard: Guard = unguarded,
    ) -> None:
        self.uri = uri.rstrip("/")
        self._access = access or Access()
        self._observe = observe
        self._guard = guard
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._trusted = credentials.Trusted(SYSTEM, self._access.ca_file, "PELAGOS_TRACKING_CA_FILE")

    @classmethod
    def from_settings(cls, settings: Settings, observe: Observe | None = None, guard: Guard = unguarded) -> MlflowRest:
        """The server that ``tracking_uri`` names."""
        return cls(settings.tracking_uri, access=Access.from_settings(settings), observe=observe, guard=guard)

    async def get(self, operation: str, **parameters: str) -> dict[str, Any]:
        """GET an operation. Raises OutageError, AbsentError or RejectedError."""
        return await self._measured("GET", operation, {"params": parameters})

    async def post(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST an operation that searches, creates or changes. Raises OutageError, AbsentError, ExistsError or RejectedError."""
        return await self._measured("POST", operation, {"json": body})

    async def delete(self, operation: str, body: Mapping[str, str]) -> dict[str, Any]:
        """DELETE by an operation. Raises OutageError, AbsentError or RejectedError."""
        return await self._measured("DELETE", operation, {"json": body})

    async def artifact(self, run: str, path: str, limit: int) -> bytes:
        """A file of a run, of at most ``limit`` bytes. Uses the route of MLflow's own pages, which works for any artifact store.

        Raises OutageError, AbsentError or RejectedError.
        """
        asked = {"params": {"run_id": run, "path": path}}
        status, content = await self._exchange("GET", "get-artifact", "get-artifact", asked, limit)
        if status != HTTPStatus.OK:
            _answer(status, content, f"{self.uri} get-artifact {path}")
            raise OutageError(SYSTEM, f"{self.uri} get-artifact {path}: HTTP {status}")
        if len(content) > limit:
            raise RejectedError(SYSTEM, f"{self.uri} get-artifact {path}: more than {limit} bytes")
        return content

    async def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _measured(self, method: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        begun = monotonic()
        error: str | None = None
        try:
            return await self._call(method, operation, arguments)
        except OutageError:
            error = "outage"
            raise
        except (AbsentError, ExistsError):
            raise  # an answer, not a failure of the call
        except RejectedError:
            error = "rejected"
            raise
        finally:
            if self._observe is not None:
                self._observe("mlflow", operation, monotonic() - begun, error)

    async def _call(self, method: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        # Asked at the last moment: leadership may have moved since the pass began. Searches are reads, although sent by POST.
        if method != "GET" and not operation.endswith("/search"):
            self._guard("mlflow", operation)
        status, content = await self._exchange(method, f"api/2.0/mlflow/{operation}", operation, arguments)
        return _answer(status, content, f"{self.uri} {operation}")

    async def _exchange(
        self, method: str, path: str, operation: str, arguments: dict[str, Any], limit: int | None = None
    ) -> tuple[int, bytes]:
        """Status and content of an answer; with ``limit``, a successful one is read up to one byte beyond it."""
        if self._session is None:
            # Created here and not in the constructor, because a session belongs to the running event loop.
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url, what = f"{self.uri}/{path}", f"{self.uri} {operation}"
        authorization = self._access.authorization()
        arguments |= {"headers": {"Authorization": authorization} if authorization else {}, "ssl": self._trusted.tls()}
        try:
            async with self._session.request(method, url, allow_redirects=False, **arguments) as response:
                if limit is None or response.status != HTTPStatus.OK:
                    content = await response.read()
                else:
                    content = b""
                    while len(content) <= limit and (more := await response.content.read(limit + 1 - len(content))):
                        content += more
                if response.status in {401, 403}:
                    said = _said(content, authorization)
                    message = f"{what}: HTTP {response.status} {said}".rstrip()
                    raise RejectedError(SYSTEM, f"{message}; {self._access.hint}")
                return response.status, content
        except TimeoutError:
            seconds = self._timeout.total
            raise OutageError(SYSTEM, f"{self.uri} {operation}: no answer within {seconds:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            message = "its TLS certificate is not trusted; name its certificate authority in PELAGOS_TRACKING_CA_FILE"
            raise OutageError(SYSTEM, f"{what}: {message}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise OutageError(SYSTEM, f"{self.uri} {operation}: {error or type(error).__name__}") from error


def _secret(file: Path, setting: str) -> str:
    return credentials.secret(SYSTEM, file, setting)


def _said(content: bytes, authorization: str) -> str:
    """The beginning of an answer in one line, with our credentials masked."""
    text = credentials.scrubbed(content, authorization)[:400].decode(errors="replace")
    return " ".join(text.split())[:200]


def _answer(status: int, content: bytes, what: str) -> dict[str, Any]:
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        body = None
    if status == 200 and isinstance(body, dict):
        return body
    text = body.get("message", "") if isinstance(body, dict) else content[:200].decode(errors="replace").strip()
    if status >= 500 and (full := _FULL.search(text)):
        where = "the volume on which the MLflow server keeps its data is full"
        hint = "free space there (with `pelagos up` it is the volume of its home folder), or make it larger"
        raise RejectedError(SYSTEM, f"{what}: {where} (HTTP {status}: {full[0]}); {hint}", reason=reasons.DISK_FULL)
    message = f"{what}: HTTP {status} {text}".rstrip()
    if status < 400 or status >= 500 or status in _RETRIABLE:
        # Includes a proxy's page, or a redirect to a login, in place of MLflow's JSON.
        raise OutageError(SYSTEM, message)
    code = body.get("error_code") if isinstance(body, dict) else None
    if code == "RESOURCE_DOES_NOT_EXIST":
        raise AbsentError(SYSTEM, text)
    if code == "RESOURCE_ALREADY_EXISTS" or (code == "BAD_REQUEST" and _UNIQUE.search(text)):
        raise ExistsError(SYSTEM, text)
    raise RejectedError(SYSTEM, message)
