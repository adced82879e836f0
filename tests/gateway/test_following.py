"""The gateway serves what the API server has, and continues while that is unavailable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.sites import Answer, Site, Upstream, until, until_true
from pelagos_gateway import table
from pelagos_gateway.table import Policy

READY = "/reef/detector/v2/health/ready"


async def test_a_service_that_is_gone_is_served_no_more(open_site: Site) -> None:
    await open_site.serve("reef", "detector")
    assert (await open_site.ask("GET", READY)).status == 200
    await open_site.api.delete("modelservices", "reef", "detector")

    async def gone() -> bool:
        return (await open_site.ask("GET", READY)).status == 404

    await until_true(gone)


async def test_a_service_that_moves_is_followed_and_loses_no_request(open_site: Site) -> None:
    site = open_site
    before = await site.serve("reef", "detector")
    after = Upstream("moved")
    await after.start()
    site.upstreams["after"] = after
    found = []
    await site.api.put("modelservices", "reef", "detector", status=after.status())
    for _ in range(1000):
        found.append((await site.ask("GET", READY)).status)
        if after.reached:
            break
    assert set(found) == {200}
    assert len(found) == len(before.reached) + len(after.reached)
    assert after.reached != []


async def test_what_was_seen_last_stays_while_the_api_server_is_away_and_is_followed_again(open_site: Site) -> None:
    site = open_site
    await site.serve("reef", "detector")
    await site.api.stop()
    await until(lambda: site.gateway._services.problem != "")
    assert (await site.ask("GET", READY)).status == 200
    await site.api.start()
    await site.serve("reef", "classifier")
    assert (await site.ask("GET", "/reef/classifier/v2")).status == 200
    assert site.gateway._services.problem == ""


async def test_watches_that_expire_are_begun_anew_and_miss_nothing(open_site: Site) -> None:
    site = open_site
    await site.serve("reef", "detector")
    lists = site.api.lists
    await site.api.forget()
    await until(lambda: site.api.lists > lists)
    await site.serve("reef", "classifier")
    assert (await site.ask("GET", "/reef/classifier/v2")).status == 200
    assert (await site.ask("GET", READY)).status == 200


async def test_lists_of_many_pages_are_read_to_their_end(open_site: Site) -> None:
    for number in range(7):
        body = {"endpoints": {"http": f"http://127.0.0.1:{4000 + number}", "grpc": f"127.0.0.1:{5000 + number}"}}
        await open_site.api.put("modelservices", "reef", f"service-{number}", status=body)
    await open_site.api.forget()
    await open_site.serve("reef", "detector")
    await until(lambda: len(open_site.gateway._judge.table.services) == 8)


async def test_a_gateway_that_starts_while_the_api_server_is_away_lets_nobody_in(site: Site) -> None:
    site.gateway._judge.is_known = False
    answer = await site.ask("GET", READY)
    assert answer.status == 503
    assert answer.error == "Who may call cannot be determined now: try again in a few seconds"
    assert await site.call() == ("UNAVAILABLE", answer.error)


async def test_who_is_being_answered_when_it_ends_is_answered(open_site: Site) -> None:
    upstream = await open_site.serve("reef", "detector")
    upstream.gate.clear()
    answers = [asyncio.create_task(open_site.ask("GET", READY)), asyncio.create_task(_call(open_site))]
    await until(lambda: len(upstream.reached) == 2)
    open_site.stopping.set()
    await asyncio.sleep(0.05)
    upstream.gate.set()
    assert [answer.status if isinstance(answer, Answer) else answer for answer in await asyncio.gather(*answers)] == [
        200,
        "OK",
    ]


async def _call(site: Site) -> str:
    return (await site.call(pelagos_service="reef/detector"))[0]


@pytest.mark.parametrize(
    "endpoints",
    [
        None,
        {},
        {"http": "ftp://127.0.0.1:80", "grpc": "127.0.0.1:81"},
        {"http": "http://127.0.0.1:80"},
        {"http": "http://127.0.0.1:99999", "grpc": "127.0.0.1:81"},
        {"http": "http://127.0.0.1:80", "grpc": "nowhere"},
        {"http": "http:///x", "grpc": "127.0.0.1:81"},
        "text",
    ],
)
def test_addresses_that_cannot_be_understood_are_left_out(endpoints: Any) -> None:
    assert table.services({("reef", "detector"): {"status": {"endpoints": endpoints}}}, {})[0] == {}


def test_who_may_call_is_what_the_tenant_settings_say_and_nobody_where_they_are_wrong() -> None:
    usual = Policy("Authenticated")
    given = {
        "reef": {"gatewayAccess": "Entitled", "gatewayEntitlements": "urn:a:group:b#c, urn:a:group:d#c"},
        "lagoon": {},
        "wrong": {"gatewayAccess": "Everybody"},
        "typing-error": {"gatewayAcces": "Authenticated"},
    }
    found = table.policies({("home", f"pelagos-tenant-{name}"): {"data": data} for name, data in given.items()}, usual)
    assert found == {
        "reef": Policy("Entitled", ("urn:a:group:b#c", "urn:a:group:d#c")),
        "lagoon": usual,
        "wrong": Policy("Nobody"),
        "typing-error": Policy("Nobody"),
    }
