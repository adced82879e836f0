"""How much one caller may ask."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.sites import Site, running, until
from pelagos_gateway.callers import LONGEST_CALL, MOST_CALLERS, Callers, Exceeded, Limits

READY = "/reef/detector/v2/health/ready"


async def test_no_more_requests_of_one_caller_are_in_progress_than_allowed(two_services: Site) -> None:
    site, slow = two_services, two_services.upstreams["reef/detector"]
    token, other = await site.trial("reef", "mine", "detector"), await site.trial("reef", "other", "detector")
    slow.gate.clear()
    calls = [asyncio.create_task(site.call(token=token)) for _ in range(8)]
    await until(lambda: len(slow.reached) == 8)
    code, words = await site.call(token=token)
    assert code == "RESOURCE_EXHAUSTED"
    assert words == ("Too much: 8 of your requests are in progress, and 8 may be at once: wait for one of them to end")
    answer = await site.ask("GET", READY, token=token)
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    calls.append(asyncio.create_task(site.call(token=other)))
    await until(lambda: len(slow.reached) == 9)
    slow.gate.set()
    assert {code for code, _ in await asyncio.gather(*calls)} == {"OK"}
    assert (await site.call(token=token))[0] == "OK"


async def test_calls_that_clients_give_up_are_in_progress_no_more(two_services: Site) -> None:
    site, slow = two_services, two_services.upstreams["reef/detector"]
    token = await site.trial("reef", "mine", "detector")
    slow.gate.clear()
    for number in range(16):
        _, writer = await asyncio.open_connection(*site.http.split(":"))
        lines = f"GET {READY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(lines.encode())
        await asyncio.sleep(number * 0.001)
        writer.close()
    await until(lambda: site.gateway._callers.in_progress == 0)
    slow.gate.set()
    assert (await site.ask("GET", READY, token=token)).status == 200


async def test_many_requests_one_after_the_other_are_not_too_many_at_once(two_services: Site) -> None:
    token = await two_services.trial("reef", "mine", "detector")
    found = [(await two_services.ask("GET", READY, token=token)).status for _ in range(60)]
    assert found == [200] * 60


async def test_a_caller_who_asks_too_often_is_told_when_to_ask_again(environments: Path) -> None:
    async with running(environments, requests_per_minute=3) as site:
        await site.serve("reef", "detector")
        token = await site.trial("reef", "mine", "detector")
        found = [(await site.ask("GET", READY, token=token)).status for _ in range(4)]
        assert found == [200, 200, 200, 429]
        answer = await site.ask("GET", READY, token=token)
        assert 10 < int(answer.headers["retry-after"]) <= 20
        assert "you may send 3 requests in a minute: try again in" in answer.error
        site.clock.ahead = 21
        assert (await site.ask("GET", READY, token=token)).status == 200


def test_a_call_whose_end_nobody_tells_is_forgotten() -> None:
    callers = Callers(Limits(per_minute=100, at_once=1))
    assert callers.begin("ada", "1", 0.0) is None
    assert isinstance(callers.begin("ada", "2", LONGEST_CALL), Exceeded)
    assert callers.begin("ada", "2", LONGEST_CALL + 1) is None


def test_ends_of_other_calls_or_told_twice_free_nothing() -> None:
    callers = Callers(Limits(per_minute=100, at_once=2))
    assert callers.begin("ada", "1", 0.0) is None
    assert callers.begin("ada", "2", 0.0) is None
    for call in ("0", "1", "1", "-"):
        callers.end(call)
    assert callers.in_progress == 1
    assert callers.begin("ada", "3", 0.0) is None
    assert isinstance(callers.begin("ada", "4", 0.0), Exceeded)


def test_a_call_that_ended_before_it_was_judged_is_not_in_progress() -> None:
    callers = Callers(Limits(per_minute=100, at_once=1))
    callers.end("1")
    assert callers.begin("ada", "1", 0.0) is None
    assert callers.in_progress == 0


def test_a_crowd_of_callers_takes_no_more_memory_than_allowed() -> None:
    callers = Callers(Limits(per_minute=100, at_once=2))
    for number in range(MOST_CALLERS + 10):
        assert callers.begin(str(number), str(number), 0.0) is None
        callers.end(f"other {number}")
    assert callers.in_progress == MOST_CALLERS
    callers.end("0")
    assert callers.in_progress == MOST_CALLERS
