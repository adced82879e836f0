"""People with a login call models: the real OpenID provider, the real gateway, the real Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import openid
from gateway.sites import Site, running, until
from pelagos_gateway.identities import identities_of
from pelagos_gateway.settings import Settings

READY = "/reef/detector/v2/health/ready"
AUDIENCE = "https://models.example.org"
TOOL = openid.client("tool", "http://127.0.0.1:1/login/back", secret=None)


@pytest.fixture(scope="module")
def provider() -> Iterator[openid.Provider]:
    made = openid.Provider([TOOL])
    yield made.start()
    made.stop()


@pytest.fixture
async def login_site(environments: Path, provider: openid.Provider) -> AsyncIterator[Site]:
    told: dict[str, Any] = {"oidc_issuer": provider.issuer, "oidc_audience": AUDIENCE, "oidc_opaque": True}
    identities = identities_of(Settings(**told), monotonic)
    async with running(environments, identities, **told) as site:
        await site.serve("reef", "detector")
        yield site
    await identities.close()


async def allow(site: Site, **data: str) -> None:
    """Write the platform's tenant settings of the namespace; returns once the gateway knows them."""
    access = data.get("gatewayAccess", "")
    await site.api.put("configmaps", "pelagos", "pelagos-tenant-reef", data=data)
    await until(lambda: site.gateway._judge.table.policy("reef/detector").access == access)


async def test_who_logged_in_may_call_where_the_platform_says_so(login_site: Site, provider: openid.Provider) -> None:
    site = login_site
    token = (await provider.tokens("alice", TOOL, resource=AUDIENCE))["access_token"]
    assert token.count(".") == 2
    answer = await site.ask("GET", READY, token=token)
    assert answer.status == 403
    assert "are not open to callers with a login: start a trial" in answer.error
    await allow(site, gatewayAccess="Authenticated")
    assert (await site.ask("GET", READY, token=token)).status == 200
    assert await site.call(token=token, pelagos_service="reef/detector") == ("OK", "")
    code, words = await site.call(token=token)
    assert (code, words) == ("NOT_FOUND", "Name a service by the metadata pelagos-service: <namespace>/<service>")


async def test_a_token_for_somebody_else_is_good_for_nothing(login_site: Site, provider: openid.Provider) -> None:
    await allow(login_site, gatewayAccess="Authenticated")
    token = (await provider.tokens("alice", TOOL, resource="https://other.example.org"))["access_token"]
    answer = await login_site.ask("GET", READY, token=token)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="pelagos", error="invalid_token"')
    assert answer.error == f"The token is for another audience: ask for one with the audience {AUDIENCE}"
    assert (await login_site.call(token=token, pelagos_service="reef/detector"))[0] == "UNAUTHENTICATED"


async def test_members_of_a_group_may_call_whichever_form_says_so(login_site: Site, provider: openid.Provider) -> None:
    site = login_site
    await allow(site, gatewayAccess="Entitled", gatewayEntitlements=openid.GROUP)
    for user, status in (("alice", 200), ("bob", 200), ("carol", 403)):
        token = (await provider.tokens(user, TOOL))["access_token"]
        assert "." not in token
        answer = await site.ask("GET", READY, token=token)
        assert answer.status == status, user
    assert f"are only for callers with the entitlement ({openid.GROUP}), which you lack" in answer.error
    assert (await site.call(token=token, pelagos_service="reef/detector"))[0] == "PERMISSION_DENIED"


async def test_whom_the_provider_does_not_know_is_told_to_log_in(login_site: Site) -> None:
    answer = await login_site.ask("GET", READY, token="made-up")
    assert (answer.status, answer.error) == (
        401,
        "The issuer does not know this token, or it has expired: log in again",
    )


async def test_trials_go_on_while_the_provider_is_away(login_site: Site, provider: openid.Provider) -> None:
    token = await login_site.trial("reef", "mine", "detector")
    provider.stop()
    try:
        assert (await login_site.ask("GET", READY, token=token)).status == 200
        answer = await login_site.ask("GET", READY, token="not-known-yet")
        assert (answer.status, answer.error) == (
            503,
            "Who may call cannot be determined now: try again in a few seconds",
        )
    finally:
        provider.start()
