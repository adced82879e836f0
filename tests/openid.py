"""A real OpenID provider for tests (tests/oidc_provider), and a client that logs in to it without a browser."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

ENVIRONMENT = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs")) / "oidc"
PROGRAM = Path(__file__).with_name("oidc_provider") / "provider.mjs"
GROUP = "urn:mace:egi.eu:group:imagine.eu:role=member#aai.egi.eu"
"""An entitlement in EGI Check-in's notation."""
OLD_GROUP = "urn:mace:egi.eu:aai.egi.eu:member@imagine.eu"
"""The same group in the older notation."""
ACCOUNTS: Mapping[str, Mapping[str, Any]] = {
    "alice": {
        "name": "Alice Seashore",
        "email": "alice@example.org",
        "voperson_id": ["a11ce@egi.eu"],
        "eduperson_entitlement": [GROUP, "urn:mace:egi.eu:group:other.eu:role=member#aai.egi.eu"],
        "realm_access": {"roles": ["access:imagine:ap-a"]},
    },
    "bob": {"name": "Bob", "voperson_id": "b0b@egi.eu", "eduperson_entitlement": OLD_GROUP},
    "carol": {"preferred_username": "carol"},
    "mallory": {
        "name": "<script>alert(1)</script>\u202e",
        "voperson_id": ["ma110ry@egi.eu"],
        "eduperson_entitlement": ["x" * 5000, GROUP],
    },
}
"""Claims by account. Arrays and strings, as providers send them; carol's account has only ``sub``."""


def client(identifier: str, redirect: str, secret: str | None = "known to tests") -> dict[str, Any]:
    """A client of the code flow; public without a secret."""
    scopes = "openid profile email voperson_id eduperson_entitlement infer"
    common = {
        "client_id": identifier,
        "redirect_uris": [redirect],
        "post_logout_redirect_uris": [redirect.partition("/login")[0] + "/"],
        "response_types": ["code"],
        "grant_types": ["authorization_code"],
        "scope": scopes,
    }
    return common | (
        {"client_secret": secret} if secret else {"token_endpoint_auth_method": "none", "application_type": "native"}
    )


@dataclass
class Provider:
    """A running provider. ``stop`` ends it; ``start`` on the same port loses all sessions."""

    clients: Sequence[Mapping[str, Any]]
    accounts: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: ACCOUNTS)
    seconds: int = 600
    """Validity of tokens, in seconds."""
    issuer: str = ""
    _process: subprocess.Popen[str] | None = None

    def start(self) -> Provider:
        """Start it and wait until it answers; skips the test where Node.js is missing."""
        if not (ENVIRONMENT / "node").exists():
            pytest.skip("no Node.js: run `make test`")
        told = {
            "port": urlsplit(self.issuer).port or 0,
            "clients": list(self.clients),
            "accounts": self.accounts,
            "seconds": self.seconds,
        }
        command: list[str | Path] = [ENVIRONMENT / "node", PROGRAM, ENVIRONMENT, json.dumps(told)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.issuer = self._process.stdout.readline().strip()
        assert self.issuer, "the provider did not start"
        return self

    def stop(self) -> None:
        """Kill the provider, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    async def log_in(self, address: str, user: str) -> str:
        """Log in as ``user`` at ``address`` and consent to everything; returns the address that the provider redirects to."""
        async with httpx2.AsyncClient(timeout=30) as browser:
            answer = await browser.get(address)
            for _ in range(12):
                if answer.is_redirect:
                    target = str(httpx2.URL(str(answer.url)).join(answer.headers["location"]))
                    if not target.startswith(self.issuer):
                        return target
                    answer = await browser.get(target)
                    continue
                assert answer.status_code == 200, answer.text
                action = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
                assert action, answer.text
                fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
                form = {**fields, "login": user, "password": "any"} if fields.get("prompt") == "login" else fields
                answer = await browser.post(unescape(action[1]), data=form)
        raise AssertionError(f"the provider asks on and on: {answer.url}")

    async def tokens(
        self, user: str, which: Mapping[str, Any], *, resource: str = "", scope: str = ""
    ) -> dict[str, Any]:
        """The tokens that client ``which`` gets for ``user``; with a ``resource`` the access token is a JWT for that resource."""
        verifier = secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        wanted = scope or ("openid infer" if resource else "openid profile voperson_id eduperson_entitlement")
        asked = {
            "client_id": which["client_id"],
            "redirect_uri": which["redirect_uris"][0],
            "response_type": "code",
            "scope": wanted,
            "state": "state",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        } | ({"resource": resource} if resource else {})
        came = await self.log_in(str(httpx2.URL(f"{self.issuer}/auth", params=asked)), user)
        form = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(came).query)["code"][0],
            "redirect_uri": which["redirect_uris"][0],
            "code_verifier": verifier,
        } | ({"resource": resource} if resource else {})
        secret = which.get("client_secret")
        basic = (which["client_id"], str(secret)) if secret else None
        async with httpx2.AsyncClient(timeout=30) as asker:
            data = form if basic else {**form, "client_id": which["client_id"]}
            answer = await asker.post(f"{self.issuer}/token", data=data, auth=basic or httpx2.USE_CLIENT_DEFAULT)
        found: dict[str, Any] = answer.json()
        assert "access_token" in found, found
        return found
