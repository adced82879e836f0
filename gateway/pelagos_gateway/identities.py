"""Who an issuer's token belongs to, and that person's entitlements. Called by ``judging`` for every request with such a token.

A JWT is checked here: signature, algorithm, issuer, audience, times. UserInfo is asked for entitlements that it lacks, since
tokens of EGI Check-in do not list groups. The answer is kept for ``KEPT_SECONDS``, but never past the token's expiry.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from pelagos_contract import entitlements
from pelagos_gateway.issuer import Issuer
from pelagos_gateway.judging import Identity, IssuerAwayError, UnknownCallerError
from pelagos_gateway.settings import Settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""No HMAC, for which a public key could be misused as the secret, and not `none`."""
KEPT_SECONDS = 300.0
"""How long an answer of UserInfo and the result of a valid token are cached."""
UNKNOWN_SECONDS = 30.0
"""How long a rejected token is remembered, so that the issuer is not asked about it again."""
MOST_KEPT = 5_000
_LEEWAY = 30
"""How many seconds the issuer's clock may be ahead of ours."""
_LONGEST_OPAQUE = 4_096
_PARTS = 3


@dataclass
class _Kept:
    """The cached identity of a token."""

    identities: OpenIdentities
    token: str
    claims: Mapping[str, Any]
    until: float
    """On the monotonic clock: when the token expires or is checked again, whichever is first."""
    told: tuple[str, ...] | None = None
    told_until: float = 0.0
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.identities.pseudonym(self.claims)

    async def entitlements(self) -> tuple[str, ...]:
        """See judging.Identity."""
        return await self.identities.entitlements_of(self)


class OpenIdentities:
    """Implements judging.Identities by OpenID Connect."""

    def __init__(
        self,
        issuer: Issuer,
        audiences: tuple[str, ...],
        claims: tuple[str, ...],
        clock: Callable[[], float],
        *,
        accepts_opaque: bool = False,
    ) -> None:
        self._issuer = issuer
        self._audiences = audiences
        self._claims = claims
        self._clock = clock
        self._accepts_opaque = accepts_opaque
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()

    async def close(self) -> None:
        """Close the connections."""
        await self._issuer.close()

    async def identify(self, token: str) -> Identity:
        """See judging.Identities."""
        digest, now = hashlib.sha256(token.encode("latin-1", "replace")).hexdigest(), self._clock()
        known = self._kept.get(digest)
        if known is not None and now < known.until:
            self._kept.move_to_end(digest)
            return known
        if now < self._unknown.get(digest, 0.0):
            raise UnknownCallerError("The issuer does not know this token, or it has expired: log in again")
        try:
            found = await (self._of_jwt(token) if token.count(".") == _PARTS - 1 else self._of_opaque(token))
        except UnknownCallerError:
            _keep(self._unknown, digest, now + UNKNOWN_SECONDS)
            raise
        _keep(self._kept, digest, found)
        return found

    def pseudonym(self, claims: Mapping[str, Any]) -> str:
        """A pseudonym that is the same for a person at every login."""
        for name in ("voperson_id", "sub"):
            found = claims.get(name)
            text = found[0] if isinstance(found, list) and found else found
            if isinstance(text, str) and text:
                return hashlib.sha256(f"{self._issuer.stated}|{text}".encode()).hexdigest()[:16]
        raise UnknownCallerError("The token does not identify its owner: it has no claim sub")

    async def entitlements_of(self, kept: _Kept) -> tuple[str, ...]:
        """Entitlements from the token itself, else from UserInfo. Raises IssuerAwayError."""
        own = self._told(kept.claims)
        if own is not None:
            return own
        now = self._clock()
        if kept.told is None or now >= kept.told_until:
            try:
                user = await self._issuer.user(kept.token, is_known=True)
            except UnknownCallerError:
                # The JWT is valid here, but UserInfo does not accept it, for example because it was issued for us alone.
                user = {}
            if user and user.get("sub") != kept.claims.get("sub"):
                raise IssuerAwayError(f"{self._issuer.name} describes somebody other than the token does")
            kept.told, kept.told_until = self._told(user) or (), min(now + KEPT_SECONDS, kept.until)
        return kept.told

    async def _of_jwt(self, token: str) -> _Kept:
        header = _header(token)
        if header.get("alg") not in ALGORITHMS:
            raise UnknownCallerError(f"The token is signed by {str(header.get('alg'))[:20]!r}, which is not accepted")
        kid = header.get("kid")
        keys = await self._issuer.keys(kid if isinstance(kid, str) else None)
        try:
            claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnknownCallerError(
                f"The signature of the token is not from {self._issuer.name}, or its key was withdrawn: log in again"
            ) from error
        now = time()
        self._check(claims, now)
        return _Kept(self, token, claims, self._clock() + min(KEPT_SECONDS, float(claims["exp"]) - now))

    def _check(self, claims: Mapping[str, Any], now: float) -> None:
        if claims.get("iss") != self._issuer.stated:
            raise UnknownCallerError(
                f"The token comes from another issuer; accepted are tokens of {self._issuer.stated}"
            )
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not any(each in self._audiences for each in audiences):
            raise UnknownCallerError(
                f"The token is for another audience: ask for one with the audience {' or '.join(self._audiences)}"
            )
        ends, begins = claims.get("exp"), claims.get("nbf", 0)
        if not _is_number(ends) or not _is_number(begins):
            raise UnknownCallerError("The token does not say when it expires: it needs the claim exp, a number")
        assert ends is not None
        if float(ends) <= now:
            raise UnknownCallerError("The token has expired: log in again")
        if float(begins) > now + _LEEWAY:
            raise UnknownCallerError("The token is not valid yet: check whether the clock of this machine is right")

    async def _of_opaque(self, token: str) -> _Kept:
        if not self._accepts_opaque or len(token) > _LONGEST_OPAQUE:
            raise UnknownCallerError(
                f"The token is not a JWT: ask {self._issuer.name} for one with the audience {' or '.join(self._audiences)}"
            )
        claims = await self._issuer.user(token, is_known=False)
        now = self._clock()
        kept = _Kept(self, token, claims, now + KEPT_SECONDS)
        kept.told, kept.told_until = self._told(claims) or (), kept.until
        return kept

    def _told(self, claims: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Entitlements in the claims; None when none of the configured claims is present."""
        found = [value for value in (_at(claims, path) for path in self._claims) if value is not None]
        return tuple(each for value in found for each in entitlements.listed(value)) if found else None


def identities_of(settings: Settings, clock: Callable[[], float]) -> OpenIdentities:
    """The identities that the settings describe; they must name an issuer."""
    issuer = Issuer(settings.oidc_issuer, settings.oidc_ca_file, clock)
    return OpenIdentities(
        issuer, settings.audiences, settings.entitlement_claims, clock, accepts_opaque=settings.oidc_opaque
    )


def _keep(kept: OrderedDict[str, Any], digest: str, value: object) -> None:
    kept[digest] = value
    kept.move_to_end(digest)
    if len(kept) > MOST_KEPT:
        kept.popitem(last=False)


def _at(claims: Mapping[str, Any], path: str) -> object:
    """The claim of this name, else the nested value that the dotted path leads to; None when there is neither."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _header(token: str) -> Mapping[str, Any]:
    part = token.partition(".")[0]
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnknownCallerError("The token cannot be read: it has dots but is not a JWT")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
