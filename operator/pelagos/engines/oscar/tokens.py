"""Access tokens of an OpenID Connect provider, by a refresh token that lasts for months (RFC 6749, section 6). Called by rest.

Tokens are kept in memory until shortly before they expire, and appear in no message. If the provider issues a new refresh token
with each access token, the new one is used for as long as this process lives; the one in the file is used up then.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import aiohttp

from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract.text import shown

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

SYSTEM = "OSCAR's login"
_TIMEOUT = aiohttp.ClientTimeout(total=20)
_EARLY = 60.0
"""A token is renewed this many seconds before it expires."""
_USUAL = 300.0
"""Assumed lifetime of a token, in seconds, if the provider does not state one."""
_LARGEST = 256 * 1024


@dataclass(frozen=True)
class Provider:
    """An OpenID Connect provider. ``url`` is its token endpoint; ``scopes`` are separated by blanks."""

    url: str
    client_id: str
    refresh_token_file: Path
    scopes: str = ""


class Tokens:
    """The current access token of a provider; ``read`` reads a mounted Secret, and raises RejectedError."""

    def __init__(self, provider: Provider, read: Callable[[Path, str], str]) -> None:
        self._provider = provider
        self._read = read
        self._token, self._until = "", 0.0
        self._successor: tuple[str, str] = ("", "")
        self._lock = asyncio.Lock()

    async def current(self, tls: ssl.SSLContext | bool) -> str:
        """A valid access token, renewed if needed. Raises OutageError, or RejectedError when a person must log in again."""
        # Under the lock, so that concurrent calls renew once: a provider may accept a refresh token only one time.
        async with self._lock:
            if monotonic() >= self._until:
                await self._renew(tls)
            return self._token

    def forget(self) -> None:
        """Discard a token that was refused, so that the next call gets another one."""
        self._until = 0.0

    async def _renew(self, tls: ssl.SSLContext | bool) -> None:
        given = self._read(self._provider.refresh_token_file, "PELAGOS_OSCAR_REFRESH_TOKEN_FILE")
        known, successor = self._successor
        form = {
            "grant_type": "refresh_token",
            "client_id": self._provider.client_id,
            "refresh_token": successor if known == given else given,
        }
        if self._provider.scopes:
            form["scope"] = self._provider.scopes
        status, content = await self._ask(form, tls)
        try:
            found = json.loads(content)
            told = found if isinstance(found, dict) else {}
        except (ValueError, RecursionError):
            told = {}
        token, lasts = told.get("access_token"), told.get("expires_in")
        if status == 200 and isinstance(token, str) and token.isprintable() and token:
            self._token = token
            seconds = float(lasts) if isinstance(lasts, int | float) and not isinstance(lasts, bool) else _USUAL
            self._until = monotonic() + max(seconds - _EARLY, 1.0)
            if isinstance(told.get("refresh_token"), str) and told["refresh_token"] != form["refresh_token"]:
                self._successor = (given, told["refresh_token"])
            return
        why = shown(f"{told.get('error', '')} {told.get('error_description', '')}".strip())[:200]
        what = f"{self._provider.url}: HTTP {status} {why}".rstrip()
        if status in {400, 401, 403} and told.get("error"):
            hint = "log in again and put the new refresh token into PELAGOS_OSCAR_REFRESH_TOKEN_FILE"
            raise RejectedError(SYSTEM, f"{what}; {hint}")
        raise OutageError(SYSTEM, f"{what}: no token was given")

    async def _ask(self, form: dict[str, str], tls: ssl.SSLContext | bool) -> tuple[int, bytes]:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(self._provider.url, data=form, ssl=tls, allow_redirects=False) as answer,
            ):
                content = b""
                # A read returns the bytes that have arrived, which may be only a part.
                while len(content) < _LARGEST and (more := await answer.content.read(_LARGEST - len(content))):
                    content += more
                return answer.status, content
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise OutageError(SYSTEM, f"{self._provider.url}: no answer ({type(error).__name__})") from None
