"""Calls of a tool's API: answers of bounded size, pauses when the server asks for them, errors in one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from pelagos.cli.annotating.tool import ToolError
from pelagos_contract.text import shown

TRIES = 5
_LONGEST_WAIT = 60.0
_LARGEST = 64 * 2**20
"""Largest answer in bytes."""
_PIECE = 2**16
_BUSY = frozenset({429, 502, 503, 504})
Login = Callable[[bool], Awaitable[str]]
"""Returns the value of the Authorization header. Called with True after the last one was refused; "" if there is no other."""


@dataclass(frozen=True)
class Answer:
    """A server's answer; ``headers`` is case-insensitive."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Calls:
    """Calls to the server at ``url``, with a login that may expire; messages call it ``service``."""

    def __init__(self, session: aiohttp.ClientSession, url: str, service: str, login: Login) -> None:
        self.url = url.rstrip("/")
        self._session, self._service, self._login = session, service, login

    async def answer(
        self,
        method: str,
        path: str,
        *,
        tries: int | None = None,
        passed: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
        **asked: Any,
    ) -> Answer:
        """Make one call. Waits when the server asks for it, and renews the login once if it has expired.

        ``passed`` are error statuses to return to the caller; any other raises ToolError.
        """
        tries, is_renewed = tries or TRIES, False
        for number in range(1, tries + 1):
            told = {**(headers or {}), "Authorization": await self._login(False)}
            try:
                async with self._session.request(method, self.url + path, headers=told, **asked) as response:
                    found = Answer(response.status, response.headers, await self._content(response))
            except (aiohttp.ClientError, TimeoutError) as error:
                if number == tries:
                    raise self._away(error) from error
                await asyncio.sleep(_wait("", number))
                continue
            if found.status in passed or found.status < 400:
                return found
            if found.status == 401 and not is_renewed and number < tries and await self._login(True):
                is_renewed = True
                continue
            if found.status in _BUSY and number < tries:
                await asyncio.sleep(_wait(found.headers.get("Retry-After", ""), number))
                continue
            if found.status == 401:
                raise ToolError(
                    f"{self.url} refuses the token or password: create a new one, and put it into the Secret"
                )
            raise ToolError(f"{method} {path} was answered {found.status}: {words(found.content)}")
        raise AssertionError("the last try answers or raises")

    async def json(
        self, method: str, path: str, *, missing: Mapping[int, Any] | None = None, **asked: Any
    ) -> dict[str, Any]:
        """The JSON object in the answer to a call; ``missing`` maps error statuses to substitutes. Raises as ``answer`` does."""
        found = await self.answer(method, path, passed=tuple(missing or ()), **asked)
        if missing is not None and found.status in missing:
            instead: dict[str, Any] = missing[found.status]
            return instead
        return self.parsed(found.content, f"{method} {path}")

    def parsed(self, content: bytes, what: str) -> dict[str, Any]:
        """The JSON object in ``content``. Raises ToolError; ``what`` names the call in its message."""
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ToolError(f"the answer to {what} is not JSON; is the url that of {self._service}?") from error
        if not isinstance(found, dict):
            raise ToolError(f"the answer to {what} is not a JSON object")
        return found

    def _away(self, error: Exception) -> ToolError:
        return ToolError(f"{self.url} cannot be reached: {shown(str(error)) or type(error).__name__}")

    async def _content(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        # Not read(n), which returns only the bytes that have arrived.
        async for piece in response.content.iter_chunked(_PIECE):
            content += piece
            if len(content) > _LARGEST:
                raise ToolError(f"{self.url} answers with more than {_LARGEST // 2**20} MiB")
        return bytes(content)


def words(content: bytes) -> str:
    """The beginning of an answer, safe to display."""
    return shown(content[:300].decode("utf-8", "replace"))


def _wait(asked: str, number: int) -> float:
    return min(float(asked) if asked.isdigit() else 2.0**number, _LONGEST_WAIT)
