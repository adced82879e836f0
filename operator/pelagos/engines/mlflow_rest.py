"""MLflow's REST API over aiohttp: one request in, its JSON or an error of our own out.

Used by mlflow_tracking and mlflow_registry. The mlflow package is not used: importing it takes seconds and 176 MB, and its
client blocks for minutes when the server is away. API: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import json
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from pelagos.ports.errors import OutageError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Observe = Callable[[str, str, float, str | None], None]
    """Told of every call: system, operation, seconds, and "outage", "rejected" or None."""

SYSTEM = "MLflow"
TIMEOUT = 10.0
_RETRIABLE = frozenset({408, 425, 429, 499})
"""Client errors that mean "not now"."""


class AbsentError(RejectedError):
    """MLflow knows no such run, experiment, model, version or alias."""


class ExistsError(RejectedError):
    """MLflow has one of this name already."""


class MlflowRest:
    """A connection to one MLflow server. Safe for concurrent use within one event loop.

    ``token`` is sent as bearer token, ``username`` and ``password`` as basic authentication; neither appears in messages.
    """

    def __init__(
        self,
        uri: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        observe: Observe | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.uri = uri.rstrip("/")
        self._headers = {}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif username:
            self._headers["Authorization"] = aiohttp.encode_basic_auth(username, password or "", "utf-8")
        self._observe = observe
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, operation: str, **parameters: str) -> dict[str, Any]:
        """Read. Raises OutageError, AbsentError or RejectedError."""
        return await self._measured("GET", operation, {"params": parameters})

    async def post(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Search, create or change. Raises OutageError, AbsentError, ExistsError or RejectedError."""
        return await self._measured("POST", operation, {"json": body})

    async def delete(self, operation: str, body: Mapping[str, str]) -> dict[str, Any]:
        """Delete. Raises OutageError, AbsentError or RejectedError."""
        return await self._measured("DELETE", operation, {"json": body})

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
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
            raise  # answers, not failures
        except RejectedError:
            error = "rejected"
            raise
        finally:
            if self._observe is not None:
                self._observe("mlflow", operation, monotonic() - begun, error)

    async def _call(self, method: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            # Created here and not in the constructor, because a session belongs to the loop that runs.
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        url = f"{self.uri}/api/2.0/mlflow/{operation}"
        try:
            async with self._session.request(method, url, allow_redirects=False, **arguments) as response:
                return _answer(response.status, await response.read(), f"{self.uri} {operation}")
        except TimeoutError:
            seconds = self._timeout.total
            raise OutageError(SYSTEM, f"{self.uri} {operation}: no answer within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise OutageError(SYSTEM, f"{self.uri} {operation}: {error or type(error).__name__}") from error


def quoted(value: str) -> str:
    """A string of MLflow's filter language, which has no escapes: a value with both kinds of quotes cannot be written."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise RejectedError(SYSTEM, f"{value!r} holds both kinds of quotes; MLflow cannot search for it. Use one kind")


def pairs(mapping: Mapping[str, str]) -> list[dict[str, str]]:
    """A mapping as MLflow's lists of tags hold it."""
    return [{"key": key, "value": value} for key, value in mapping.items()]


def mapping(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """The reverse of ``pairs``."""
    return {tag["key"]: tag.get("value", "") for tag in tags or []}


def _answer(status: int, content: bytes, what: str) -> dict[str, Any]:
    try:
        body = json.loads(content or b"{}")
    except ValueError:
        body = None
    if status == 200 and isinstance(body, dict):
        return body
    text = body.get("message", "") if isinstance(body, dict) else content[:200].decode(errors="replace").strip()
    message = f"{what}: HTTP {status} {text}".rstrip()
    if status < 400 or status >= 500 or status in _RETRIABLE:
        # Also a page of a proxy, or a redirection to a login, instead of MLflow's JSON.
        raise OutageError(SYSTEM, message)
    code = body.get("error_code") if isinstance(body, dict) else None
    if code == "RESOURCE_DOES_NOT_EXIST":
        raise AbsentError(SYSTEM, text)
    if code == "RESOURCE_ALREADY_EXISTS":
        raise ExistsError(SYSTEM, text)
    raise RejectedError(SYSTEM, message)
