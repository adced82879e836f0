"""The OpenID Connect issuer: its discovery document, its keys and its UserInfo. The size of all answers is bounded.

Called by ``identities``. Requests to it are rare: keys are cached, and a flood of forged tokens does not cause a request each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from joserfc.jwk import KeySet

from pelagos_gateway.judging import IssuerAwayError, UnknownCallerError
from pelagos_gateway.metrics import METRICS

logger = logging.getLogger(__name__)

KEPT_SECONDS = 600.0
"""Age after which keys are fetched again when next needed, so that withdrawn keys stop being accepted."""
LONGEST_SECONDS = 24 * 3600.0
"""How long keys are accepted while the issuer cannot be reached."""
AGAIN_SECONDS = 30.0
"""Least time between two attempts to fetch keys, also when tokens name unknown keys or the last attempt failed."""
_SECONDS = 5.0
_MOST_BYTES = 1024 * 1024
_MOST_KEYS = 64
_AT_ONCE = 16
_DISCOVERY = "/.well-known/openid-configuration"
_KINDS = frozenset({"RSA", "EC", "OKP"})
"""Accepted key types: asymmetric ones only, since a symmetric key would allow the verifier to sign."""


class Issuer:
    """A client for one issuer. ``clock`` is monotonic."""

    def __init__(self, name: str, ca_file: Path | None, clock: Callable[[], float]) -> None:
        self.name = name.rstrip("/")
        self._stated = name
        self._clock = clock
        self._tls = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._session: aiohttp.ClientSession | None = None
        self._document: Mapping[str, Any] = {}
        self._keys = KeySet([])
        self._known: frozenset[str] = frozenset()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = asyncio.Lock()
        self._turns = {is_known: asyncio.Semaphore(_AT_ONCE) for is_known in (True, False)}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def keys(self, kid: str | None) -> KeySet:
        """The keys that are valid now, fetched again when ``kid`` is unknown. Raises IssuerAwayError when there are none."""
        if self._is_due(kid):
            async with self._lock:
                # Another task may have fetched them while this one waited for the lock.
                if self._is_due(kid):
                    self._tried = self._clock()
                    try:
                        await self._fetch()
                    except IssuerAwayError as error:
                        logger.warning("%s", error)
        if self._fetched is None or self._clock() - self._fetched > LONGEST_SECONDS:
            raise IssuerAwayError(f"the keys of {self.name} cannot be fetched")
        return self._keys

    def _is_due(self, kid: str | None) -> bool:
        now = self._clock()
        is_old = self._fetched is None or now - self._fetched > KEPT_SECONDS
        is_unknown = kid is not None and kid not in self._known
        return (is_old or is_unknown) and (self._tried is None or now - self._tried >= AGAIN_SECONDS)

    async def user(self, token: str, *, is_known: bool) -> Mapping[str, Any]:
        """The claims of UserInfo. Raises UnknownCallerError when the issuer rejects the token, and IssuerAwayError.

        ``is_known``: the token has been verified. Places are reserved for such requests, so that a flood of unverified tokens
        cannot delay them.
        """
        if not self._document:
            async with self._lock:
                await self._discover()
        turns = self._turns[is_known]
        if turns.locked():
            raise IssuerAwayError("too many tokens are being checked")
        async with turns:
            url = self._address("userinfo_endpoint")
            return await self._get("userinfo", url, {"Authorization": f"Bearer {token}"})

    async def _discover(self) -> None:
        found = await self._get("discovery", self.name + _DISCOVERY, {})
        # The configured name may differ by a trailing slash; in tokens it must be exactly as the issuer states it.
        if str(found.get("issuer", "")).rstrip("/") != self.name:
            raise IssuerAwayError(f"{self.name} says that it is {str(found.get('issuer'))[:200]!r}")
        self._document = found

    @property
    def stated(self) -> str:
        """The issuer's name exactly as tokens must have it in the claim iss."""
        return str(self._document.get("issuer") or self._stated)

    async def _fetch(self) -> None:
        await self._discover()
        found = await self._get("keys", self._address("jwks_uri"), {})
        made = []
        for each in (found.get("keys") or ())[:_MOST_KEYS]:
            if isinstance(each, dict) and each.get("kty") in _KINDS and each.get("use", "sig") == "sig":
                try:
                    made += KeySet.import_key_set({"keys": [each]}).keys
                except Exception as error:
                    logger.warning("a key of %s cannot be used: %s", self.name, error)
        if not made:
            raise IssuerAwayError(f"{self.name} publishes no usable key")
        self._keys, self._fetched = KeySet(made), self._clock()
        self._known = frozenset(key.kid for key in made if key.kid)

    def _address(self, field: str) -> str:
        url = str(self._document.get(field) or "")
        # A document that was fetched over TLS must not lead to an address without TLS.
        if urlsplit(url).scheme != urlsplit(self.name).scheme or not urlsplit(url).hostname:
            raise IssuerAwayError(f"{field} of {self.name} is {url[:200]!r}, which cannot be used")
        return url

    async def _get(self, what: str, url: str, headers: Mapping[str, str]) -> Mapping[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        limit = aiohttp.ClientTimeout(total=_SECONDS)
        told = {"Accept": "application/json", **headers}
        try:
            async with self._session.get(
                url, headers=told, ssl=self._tls, timeout=limit, allow_redirects=False
            ) as answer:
                if headers and answer.status in {400, 401, 403}:
                    METRICS.issuer.labels(what, "refused").inc()
                    raise UnknownCallerError("The issuer does not know this token, or it has expired: log in again")
                content = await answer.content.read(_MOST_BYTES + 1)
                while len(content) <= _MOST_BYTES and (more := await answer.content.read(_MOST_BYTES)):
                    content += more
                if answer.status != 200 or len(content) > _MOST_BYTES:
                    raise IssuerAwayError(f"{url} answered {answer.status} with {len(content)} bytes")
                found = json.loads(content)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            METRICS.issuer.labels(what, "failed").inc()
            raise IssuerAwayError(f"{url}: {error or type(error).__name__}") from error
        if not isinstance(found, dict):
            raise IssuerAwayError(f"{url} did not answer with an object")
        METRICS.issuer.labels(what, "answered").inc()
        return found
