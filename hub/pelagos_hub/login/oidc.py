"""Login by an OpenID provider: authorization code flow with PKCE, by Authlib. Checks that Authlib leaves to callers are here."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.common.urls import add_params_to_uri
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError

from pelagos_hub.login import identity

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from pelagos_hub.login.identity import Person
    from pelagos_hub.settings import Settings

BACK = "/login/back"
"""Path of the redirect URI."""
_SECONDS = 10.0
_LEEWAY = 60
"""Seconds by which the clocks of hub and provider may differ."""
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Signature algorithms that only the provider can use: never `none`, never HMAC by the client's secret."""
_NEEDED = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")


class ProviderAwayError(Exception):
    """The provider does not answer, or not as an OpenID provider."""


class RefusedError(Exception):
    """The provider refused, or its answer fails a check; the message is for the log."""


class Provider:
    """A provider. Its metadata is read at the first login and then kept."""

    def __init__(self, settings: Settings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        secret_file = settings.oidc_client_secret_file
        secret = secret_file.read_text(encoding="utf-8").strip() if secret_file else None
        kwargs: dict[str, Any] = {
            "scope": settings.oidc_scopes,
            "code_challenge_method": "S256",
            "timeout": _SECONDS,
            "token_endpoint_auth_method": "client_secret_basic" if secret else "none",
        }
        self._app = OAuth().register(
            "provider",
            client_id=settings.oidc_client_id,
            client_secret=secret,
            server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs=kwargs | ({"transport": transport} if transport else {}),
        )

    async def begin(self, request: Request) -> Response:
        """Redirect the browser to the provider; state and nonce are kept in the session. Raises ProviderAwayError."""
        await self._metadata()
        redirect: Response = await self._app.authorize_redirect(request, self._settings.origin + BACK)
        return redirect

    async def complete(self, request: Request) -> Person:
        """The person who returns from the provider. Raises RefusedError or ProviderAwayError."""
        metadata = await self._metadata()
        # RFC 9207: the response must be from the provider that was asked (mix-up attack).
        if (told := request.query_params.get("iss")) is not None and told != metadata["issuer"]:
            raise RefusedError(f"the answer comes from the issuer {told!r}")
        try:
            tokens = await self._app.authorize_access_token(request, leeway=_LEEWAY)
            # Authlib checks nonce, signature, issuer, audience and expiry of an ID token, but does not require one.
            if not (named := tokens.get("userinfo")) or not named.get("sub"):
                raise RefusedError("the provider sent no ID token")
            claims = await self._app.userinfo(token=tokens)
        except httpx2.HTTPError as error:
            raise ProviderAwayError(f"{type(error).__name__}: {error}") from error
        except (AuthlibBaseError, JoseError, ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        # OpenID Connect Core 5.3.2: UserInfo must be about the same subject as the ID token.
        if not hmac.compare_digest(str(claims.get("sub", "")).encode(), str(named["sub"]).encode()):
            raise RefusedError("UserInfo is about somebody other than the ID token")
        try:
            return identity.person(
                metadata["issuer"], claims, self._settings.oidc_user_claim, self._settings.oidc_entitlements_claim
            )
        except identity.UnknownPersonError as error:
            raise RefusedError(str(error)) from error

    async def goodbye(self) -> str:
        """URL to log out of the provider as well; empty when it has none or does not answer."""
        try:
            end = (await self._metadata()).get("end_session_endpoint")
        except ProviderAwayError:
            return ""
        back = {"client_id": self._settings.oidc_client_id, "post_logout_redirect_uri": self._settings.origin + "/"}
        return str(add_params_to_uri(end, back)) if _is_address(end) else ""

    async def _metadata(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._app.load_server_metadata()
            problem = (
                "" if found.get("issuer") == self._settings.oidc_issuer else f"it calls itself {found.get('issuer')!r}"
            )
            problem = problem or next(
                (f"it names no {name}" for name in _NEEDED if not _is_address(found.get(name))), ""
            )
        except (httpx2.HTTPError, ValueError, TypeError, AttributeError) as error:
            raise ProviderAwayError(f"{self._settings.oidc_issuer}: {type(error).__name__}: {error}") from error
        if problem:
            self._app.server_metadata.pop("_loaded_at", None)  # Makes Authlib load the metadata again next time.
            raise ProviderAwayError(f"{self._settings.oidc_issuer}: {problem}")
        offered = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        found["id_token_signing_alg_values_supported"] = [name for name in offered if name in _ALGORITHMS] or ["RS256"]
        return found


def _is_address(told: object) -> bool:
    return isinstance(told, str) and told.startswith(("https://", "http://"))
