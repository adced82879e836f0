"""Signing in by a real provider and out again, in Chromium: how its policies and cookies handle our redirects."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

import openid
from catalogued import served
from hub_servers import DESK, Watched, barriers, chromium, listening
from hub_sites import Site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def address() -> Iterator[tuple[str, str]]:
    """The addresses of a hub, and of the provider by which people sign in to it."""
    providers: list[openid.Provider] = []

    def site(url: str) -> Site:
        providers.append(openid.Provider([openid.client("hub", f"{url}/login/back", secret=None)]).start())
        found = Site(url=url, oidc_issuer=providers[0].issuer, oidc_client_id="hub", oidc_name="EGI Check-in")
        found.cluster.put(served())
        return found

    with listening(site) as url:
        yield url, providers[0].issuer
    providers[0].stop()


def test_somebody_signs_in_where_they_were_and_out_again(browser: Browser, address: tuple[str, str]) -> None:
    url, issuer = address
    visitor = Watched(browser, url, viewport=DESK)
    page = visitor.open("/models/reef/plankton")
    page.get_by_role("link", name="Sign in").first.click()
    page.wait_for_url(f"{issuer}/**")
    page.locator("input[name=login]").fill("alice")
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.locator("button[type=submit]").click()  # consents to what the hub asks for

    page.wait_for_url(f"{url}/models/reef/plankton")
    expect(page.get_by_text("Alice Seashore")).to_be_visible()
    expect(page.get_by_role("button", name="Try", exact=True)).to_be_visible()
    (cookie,) = (each for each in visitor.context.cookies(url) if each["name"].startswith("pelagos"))
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert page.evaluate("document.cookie") == ""

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{url}/logged-out")
    expect(page.get_by_role("link", name="Sign out there as well")).to_have_attribute(
        "href", re.compile(re.escape(f"{issuer}/session/end?"))
    )
    assert barriers(page) == []
    page.go_back()
    page.reload()
    expect(page.get_by_text("Alice Seashore")).to_have_count(0)
    ours = [said for said in visitor.complaints if url in said]
    assert ours == []
    assert {each for each in visitor.strangers if not each.startswith((issuer, "https://fonts."))} == set()
    visitor.context.close()
