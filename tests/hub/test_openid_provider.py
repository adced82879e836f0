"""The provider of tests behaves as EGI Check-in does; the tests of hub and gateway rely on that."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

import openid


@pytest.fixture(scope="module")
def provider() -> Iterator[openid.Provider]:
    """A provider with one confidential and one public client."""
    back = "http://127.0.0.1:1/login/back"
    made = openid.Provider([openid.client("hub", back), openid.client("tool", back, secret=None)])
    yield made.start()
    made.stop()


def claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def test_entitlements_are_found_at_userinfo_alone(provider: openid.Provider) -> None:
    tokens = await provider.tokens("alice", provider.clients[0])

    told = claims(tokens["id_token"])
    assert told["iss"] == provider.issuer
    assert told["sub"] == "alice"
    assert not {"name", "voperson_id", "eduperson_entitlement"} & told.keys()
    assert tokens["access_token"].count(".") == 0
    async with httpx2.AsyncClient() as asker:
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        found = (await asker.get(f"{provider.issuer}/me", headers=bearer)).json()
    assert found["voperson_id"] == ["a11ce@egi.eu"]
    assert openid.GROUP in found["eduperson_entitlement"]


async def test_a_token_for_a_resource_is_a_jwt_that_names_it(provider: openid.Provider) -> None:
    tokens = await provider.tokens("bob", provider.clients[1], resource="https://models.example.org")

    told = claims(tokens["access_token"])
    assert told["aud"] == "https://models.example.org"
    assert told["iss"] == provider.issuer
    assert told["sub"] == "bob"
