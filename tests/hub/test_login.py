"""Logging in by a real OpenID provider, and attacks on it, which achieve nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

import openid
from hub_sites import URL, Site, hidden
from pelagos_hub.login.identity import pseudonym

BACK = f"{URL}/login/back"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openid.Provider]:
    """A provider that knows the hub."""
    made = openid.Provider([openid.client("hub", BACK), openid.client("public-hub", BACK, secret=None)])
    yield made.start()
    made.stop()


@pytest.fixture
def site(provider: openid.Provider, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A hub with a client secret, as an institution would run it."""
    secret = tmp_path_factory.mktemp("secret") / "secret"
    secret.write_text("known to tests\n", encoding="utf-8")
    return Site(oidc_issuer=provider.issuer, oidc_client_id="hub", oidc_client_secret_file=secret)


@pytest.fixture
async def visitor(site: Site) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser in which nobody is logged in."""
    async with site.visitor() as made:
        yield made


async def log_in(site: Site, visitor: httpx2.AsyncClient, user: str, then: str = "/") -> httpx2.Response:
    """Go through the provider and back; returns the hub's answer to its code."""
    sent = await visitor.get("/login", params={"next": then})
    provider = openid.Provider([], issuer=site.hub.settings.oidc_issuer)
    return await visitor.get(await provider.log_in(sent.headers["location"], user))


def logins(site: Site, result: str) -> float | None:
    return site.hub.metrics.registry.get_sample_value("pelagos_hub_logins_total", {"result": result})


async def test_somebody_logs_in_and_comes_back_to_where_they_were(site: Site, visitor: httpx2.AsyncClient) -> None:
    answer = await log_in(site, visitor, "alice", "/?task=detection")

    assert answer.status_code == 303
    assert answer.headers["location"] == "/?task=detection"
    page = (await visitor.get("/")).text
    assert "Alice Seashore" in page
    assert "Sign out" in page
    assert logins(site, "Done") == 1


async def test_the_provider_is_asked_with_pkce_state_and_nonce(visitor: httpx2.AsyncClient) -> None:
    sent = parse_qs(urlsplit((await visitor.get("/login")).headers["location"]).query)

    assert sent["code_challenge_method"] == ["S256"]
    assert len(sent["code_challenge"][0]) == 43
    assert len(sent["state"][0]) >= 20
    assert len(sent["nonce"][0]) >= 20
    assert sent["redirect_uri"] == [BACK]


async def test_the_cookie_says_nothing_and_no_script_can_read_it(site: Site, visitor: httpx2.AsyncClient) -> None:
    answer = await log_in(site, visitor, "alice")

    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    number = cookie.partition("=")[2].partition(";")[0]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", number)
    # Nor does the server keep it: its memory has only hashes.
    assert number not in repr(vars(site.hub.sessions))


async def test_with_https_the_cookie_is_bound_to_it_and_to_the_name(provider: openid.Provider) -> None:
    site = Site(url="https://models.example.org", oidc_issuer=provider.issuer, oidc_client_id="hub")
    async with site.visitor() as visitor:
        cookie = (await visitor.get("/login")).headers["set-cookie"]
    assert cookie.startswith("__Host-pelagos=")
    assert "Secure" in cookie


@pytest.mark.parametrize(
    ("user", "name", "identifier"),
    [("alice", "Alice Seashore", "a11ce@egi.eu"), ("bob", "Bob", "b0b@egi.eu"), ("carol", "carol", "carol")],
)
async def test_who_somebody_is_comes_from_userinfo_as_array_string_or_subject(
    site: Site, visitor: httpx2.AsyncClient, user: str, name: str, identifier: str
) -> None:
    await log_in(site, visitor, user)

    (session,) = site.hub.sessions.all()
    assert session.person is not None
    assert session.person.key == pseudonym(site.hub.settings.oidc_issuer, identifier)
    assert session.person.name == name
    assert (
        session.person.entitlements
        == {
            "alice": frozenset(openid.ACCOUNTS["alice"]["eduperson_entitlement"]),
            "bob": frozenset({openid.OLD_GROUP}),
            "carol": frozenset(),
        }[user]
    )


async def test_a_public_client_logs_in_by_pkce_alone_and_roles_are_found_where_keycloak_has_them(
    provider: openid.Provider,
) -> None:
    claim = "realm_access.roles"
    site = Site(oidc_issuer=provider.issuer, oidc_client_id="public-hub", oidc_entitlements_claim=claim)
    async with site.visitor() as visitor:
        await log_in(site, visitor, "alice")
    (session,) = site.hub.sessions.all()
    assert session.person is not None
    assert session.person.entitlements == {"access:imagine:ap-a"}


async def test_a_name_is_shown_and_never_obeyed_and_what_is_too_long_is_left_out(
    site: Site, visitor: httpx2.AsyncClient
) -> None:
    await log_in(site, visitor, "mallory")
    page = (await visitor.get("/")).text

    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    (session,) = site.hub.sessions.all()
    assert session.person is not None
    assert session.person.entitlements == {openid.GROUP}


async def test_a_session_that_somebody_planted_is_worth_nothing_after_the_login(
    site: Site, visitor: httpx2.AsyncClient
) -> None:
    # The attacker begins a login and plants its cookie with the victim, who logs in with it.
    async with site.visitor() as attacker:
        sent = (await attacker.get("/login")).headers["location"]
        planted = dict(attacker.cookies)
        ((name, number),) = planted.items()
        visitor.cookies.set(name, number, domain="127.0.0.1", path="/")
        provider = openid.Provider([], issuer=site.hub.settings.oidc_issuer)
        await visitor.get(await provider.log_in(sent, "alice"))

        assert "Alice" in (await visitor.get("/")).text
        assert dict(visitor.cookies) != planted
        assert "Alice" not in (await attacker.get("/")).text


async def test_a_code_of_somebody_else_is_refused(site: Site, visitor: httpx2.AsyncClient) -> None:
    async with site.visitor() as attacker:
        sent = (await attacker.get("/login")).headers["location"]
        provider = openid.Provider([], issuer=site.hub.settings.oidc_issuer)
        back = await provider.log_in(sent, "mallory")

        # Neither a browser that began no login, nor one that began its own.
        assert (await visitor.get(back)).status_code == 400
        await visitor.get("/login")
        assert (await visitor.get(back)).status_code == 403
    assert not site.hub.sessions.all()
    assert logins(site, "Refused") == 2


async def test_a_code_works_once(site: Site, visitor: httpx2.AsyncClient) -> None:
    sent = (await visitor.get("/login")).headers["location"]
    back = await openid.Provider([], issuer=site.hub.settings.oidc_issuer).log_in(sent, "alice")
    number = dict(visitor.cookies)
    assert (await visitor.get(back)).status_code == 303
    async with site.visitor(cookies=number) as again:
        assert (await again.get(back)).status_code == 400


async def test_an_answer_of_another_provider_is_refused(site: Site, visitor: httpx2.AsyncClient) -> None:
    sent = (await visitor.get("/login")).headers["location"]
    back = await openid.Provider([], issuer=site.hub.settings.oidc_issuer).log_in(sent, "alice")
    other = str(httpx2.URL(back).copy_set_param("iss", "https://evil.example"))
    answer = await visitor.get(other)
    assert answer.status_code == 403
    assert "You were not signed in" in answer.text


async def test_what_the_provider_refuses_is_told_without_its_words(site: Site, visitor: httpx2.AsyncClient) -> None:
    await visitor.get("/login")
    answer = await visitor.get("/login/back?error=access_denied&error_description=<b>CANARY</b>&state=x")
    assert answer.status_code == 403
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/ok\r\nSet-Cookie: a=b",
        "/logout",
        "evil",
    ],
)
async def test_after_the_login_nobody_is_led_elsewhere(site: Site, visitor: httpx2.AsyncClient, address: str) -> None:
    assert (await log_in(site, visitor, "bob", address)).headers["location"] == "/"


async def test_a_cookie_that_was_stolen_is_worth_nothing_after_the_logout(
    site: Site, visitor: httpx2.AsyncClient
) -> None:
    await log_in(site, visitor, "alice")
    stolen = dict(visitor.cookies)
    csrf = hidden((await visitor.get("/")).text)
    left = await visitor.post("/logout", data={"csrf": csrf}, headers={"Origin": URL})

    assert left.headers["location"] == "/logged-out"
    assert "Max-Age=0" in left.headers["set-cookie"]
    async with site.visitor(cookies=stolen) as thief:
        assert "Alice" not in (await thief.get("/")).text
    gone = (await visitor.get("/logged-out")).text
    assert f"{site.hub.settings.oidc_issuer}/session/end?" in gone


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({}, True),
        ({"Origin": URL, "Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": URL}, False),
    ],
    ids=["other origin", "hidden origin", "no origin", "other port", "no token"],
)
async def test_what_did_not_come_from_our_page_changes_nothing(
    site: Site, visitor: httpx2.AsyncClient, headers: dict[str, str], token: bool
) -> None:
    await log_in(site, visitor, "alice")
    csrf = hidden((await visitor.get("/")).text) if token else "guessed"
    answer = await visitor.post("/logout", data={"csrf": csrf}, headers=headers)
    assert answer.status_code == 403
    assert "Alice" in (await visitor.get("/")).text


async def test_a_session_ends_when_it_lies_idle_and_when_it_is_old(site: Site, visitor: httpx2.AsyncClient) -> None:
    await log_in(site, visitor, "alice")
    site.clock.seconds += 3599
    assert "Alice" in (await visitor.get("/")).text
    site.clock.seconds += 3601
    assert "Alice" not in (await visitor.get("/")).text

    await log_in(site, visitor, "alice")
    for _ in range(17):
        site.clock.seconds += 1750
        page = (await visitor.get("/")).text
    assert "Alice" not in page


async def test_whoever_begins_thousands_of_logins_logs_nobody_out(site: Site, visitor: httpx2.AsyncClient) -> None:
    await log_in(site, visitor, "alice")
    for _ in range(2_100):
        site.hub.sessions.begin()
    assert "Alice" in (await visitor.get("/")).text
    assert len(site.hub.sessions) == 1


def test_no_more_sessions_are_kept_than_a_bound_and_the_idle_ones_go_first() -> None:
    site = Site(sessions=10)
    person: Any = object()
    numbers = [site.hub.sessions.begin(person)[0] for _ in range(10)]
    assert site.hub.sessions.find(numbers[0]) is not None
    site.hub.sessions.begin(person)
    assert site.hub.sessions.find(numbers[0]) is not None
    assert site.hub.sessions.find(numbers[1]) is None


async def test_a_provider_that_is_away_is_told_and_asked_again(
    provider: openid.Provider, site: Site, visitor: httpx2.AsyncClient
) -> None:
    provider.stop()
    answer = await visitor.get("/login")
    assert answer.status_code == 503
    assert "does not answer" in answer.text
    assert (await visitor.get("/")).status_code == 200
    provider.start()
    assert (await log_in(site, visitor, "alice")).status_code == 303


async def test_every_route_that_changes_something_checks_where_it_comes_from(site: Site) -> None:
    changing = [
        route
        for route in site.app.routes
        if {"POST", "PUT", "PATCH", "DELETE"} & (getattr(route, "methods", None) or set())
    ]
    assert changing
    for route in changing:
        assert getattr(route.endpoint, "checks_csrf", False), route  # type: ignore[attr-defined]
