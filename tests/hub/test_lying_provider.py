"""A provider, or an attacker between it and the hub, that sends false data: nobody is logged in by that."""

from __future__ import annotations

import dataclasses
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hub_sites import Site
from pelagos_hub.login.oidc import Provider

ISSUER = "https://login.example.org"
KEY, OTHER_KEY = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
SECRET = "a secret that the client and the provider share, long enough"


class Liar:
    """Answers truthfully, except for values that a test changes."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "userinfo_endpoint": f"{ISSUER}/me",
            "jwks_uri": f"{ISSUER}/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        self.claims: dict[str, Any] = {"iss": ISSUER, "aud": "hub", "sub": "alice"}
        self.userinfo: Any = {"sub": "alice", "name": "Alice", "voperson_id": "alice@egi.eu"}
        self.key: RSAKey | OctKey = KEY
        self.algorithm = "RS256"
        self.sends_id_token = True
        self.status = 200
        self.nonce = ""

    def application(self) -> Starlette:
        async def metadata(_request: Request) -> Response:
            return JSONResponse(self.metadata, self.status)

        async def keys(_request: Request) -> Response:
            return JSONResponse({"keys": [KEY.as_dict(private=False)]})

        async def token(_request: Request) -> Response:
            now = int(time.time())
            claims = {"nonce": self.nonce, "iat": now, "exp": now + 300, **self.claims}
            found = {"access_token": "opaque", "token_type": "Bearer"}
            if self.sends_id_token:
                header = {"alg": self.algorithm, "typ": "JWT"}
                if self.algorithm == "none":
                    found["id_token"] = f"{encoded(header)}.{encoded(claims)}."
                else:
                    found["id_token"] = jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
            return JSONResponse(found)

        async def userinfo(_request: Request) -> Response:
            return PlainTextResponse(self.userinfo) if isinstance(self.userinfo, str) else JSONResponse(self.userinfo)

        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", metadata),
                Route("/jwks", keys),
                Route("/token", token, methods=["POST"]),
                Route("/me", userinfo),
            ]
        )


def encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


async def login(liar: Liar) -> tuple[Site, httpx2.Response]:
    """The hub's answer to the provider's code."""
    site = Site(oidc_issuer=ISSUER, oidc_client_id="hub")
    provider = Provider(site.hub.settings, transport=httpx2.ASGITransport(liar.application()))
    site.app.state.hub = dataclasses.replace(site.hub, provider=provider)
    async with site.visitor() as visitor:
        sent = await visitor.get("/login")
        if sent.status_code != 302:
            return site, sent
        asked = parse_qs(urlsplit(sent.headers["location"]).query)
        liar.nonce = liar.nonce or asked["nonce"][0]
        return site, await visitor.get("/login/back", params={"code": "c", "state": asked["state"][0]})


async def test_when_it_speaks_the_truth_somebody_is_logged_in() -> None:
    site, answer = await login(Liar())
    assert answer.status_code == 303
    assert len(site.hub.sessions) == 1


def lies(**changes: Any) -> Callable[[Liar], None]:
    def change(liar: Liar) -> None:
        for name, value in changes.items():
            if name in {"claims", "metadata"}:
                getattr(liar, name).update(value)
            else:
                setattr(liar, name, value)

    return change


@pytest.mark.parametrize(
    ("lie", "status"),
    [
        (lies(nonce="another"), 403),
        (lies(claims={"aud": "another client"}), 403),
        (lies(claims={"iss": "https://evil.example"}), 403),
        (lies(claims={"exp": 1}), 403),
        (lies(claims={"sub": None}), 403),
        (lies(key=OTHER_KEY), 403),
        (lies(key=OctKey.import_key(SECRET), algorithm="HS256"), 403),
        (
            lies(
                key=OctKey.import_key(SECRET),
                algorithm="HS256",
                metadata={"id_token_signing_alg_values_supported": ["HS256", "none"]},
            ),
            403,
        ),
        (lies(algorithm="none", metadata={"id_token_signing_alg_values_supported": ["none"]}), 403),
        (lies(sends_id_token=False), 403),
        (lies(userinfo={"sub": "mallory", "voperson_id": "alice@egi.eu"}), 403),
        (lies(userinfo={"voperson_id": "alice@egi.eu"}), 403),
        (lies(userinfo="no JSON"), 403),
        (lies(userinfo=["sub", "alice"]), 403),
        (lies(userinfo={"sub": "alice", "voperson_id": "x" * 1000}), 403),
        (lies(metadata={"issuer": "https://evil.example"}), 503),
        (lies(metadata={"userinfo_endpoint": None}), 503),
        (lies(metadata={"authorization_endpoint": "javascript:alert(1)"}), 503),
        (lies(status=500), 503),
    ],
    ids=[
        "nonce", "audience", "issuer", "expired", "nobody", "other key", "symmetric", "symmetric as announced", "unsigned",
        "no ID token", "UserInfo of somebody else", "UserInfo of nobody", "UserInfo no JSON", "UserInfo a list",
        "endless name", "other issuer in its metadata", "no UserInfo", "script for an address", "failing",
    ],
)  # fmt: skip
async def test_what_does_not_hold_logs_nobody_in(lie: Callable[[Liar], None], status: int) -> None:
    liar = Liar()
    lie(liar)
    site, answer = await login(liar)
    assert answer.status_code == status, answer.text
    assert len(site.hub.sessions) == 0


async def test_a_script_for_an_address_to_log_out_at_is_not_shown() -> None:
    liar = Liar()
    liar.metadata["end_session_endpoint"] = "javascript:alert(1)"
    site, _ = await login(liar)
    async with site.visitor() as visitor:
        assert "javascript" not in (await visitor.get("/logged-out")).text
