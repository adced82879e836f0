"""How many requests one caller may make."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.sites import BINARY, Site, running, until
from pelagos_gateway.callers import MOST_CALLERS, Callers, Exceeded, Limits

READY = "/reef/detector/v2/health/ready"


async def test_no_more_requests_of_one_caller_are_in_progress_than_allowed(two_services: Site) -> None:
    site, slow = two_services, two_services.upstreams["reef/detector"]
    token, other = await site.trial("reef", "mine", "detector"), await site.trial("reef", "other", "detector")
    slow.gate.clear()
    calls = [asyncio.create_task(site.call(token=token)) for _ in range(8)]
    await until(lambda: len(slow.reached) == 8)
    code, words = await site.call(token=token)
    assert code == "RESOURCE_EXHAUSTED"
    assert words == (
        "Too much: 8 of your requests are in progress, and 8 are allowed at once: wait for one of them to end"
    )
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
        assert "you may send 3 requests per minute: try again in" in answer.error
        site.clock.ahead = 21
        assert (await site.ask("GET", READY, token=token)).status == 200


INFER = "/reef/detector/v2/models/detector/infer"
SLOW = ("Content-Length: 2000000", "Transfer-Encoding: chunked", "Content-Length: 60000000")


async def test_who_sends_slowly_leaves_places_for_others(two_services: Site) -> None:
    site, detector = two_services, two_services.upstreams["reef/detector"]
    token, other = await site.trial("reef", "mine", "detector"), await site.trial("reef", "other", "detector")
    writers = []
    for length in SLOW:
        _, writer = await asyncio.open_connection(*site.http.split(":"))
        lines = [f"POST {INFER} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", length]
        writer.write("\r\n".join([*lines, "Inference-Header-Content-Length: 0", "", "1\r\nx\r\n"]).encode())
        writers.append(writer)
    await until(lambda: site.gateway._callers.in_progress == len(SLOW))
    long = bytes(2_000_000)
    refused = await site.ask("POST", INFER, long, token=token, **BINARY)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "3 of your bodies of more than a mebibyte are being sent, and 3 are allowed at once" in refused.error
    assert (await site.ask("POST", INFER, b"short", token=token, **BINARY)).status == 200
    assert (await site.ask("POST", INFER, long, token=other, **BINARY)).status == 200
    for writer in writers:
        writer.close()
    await until(lambda: site.gateway._callers.in_progress == 0)
    assert (await site.ask("POST", INFER, long, token=token, **BINARY)).status == 200
    assert not [name for _, _, headers in detector.reached for name in headers if name.startswith("pelagos")]


async def test_a_client_does_not_say_how_long_the_gateway_takes_its_body_for(two_services: Site) -> None:
    site = two_services
    token = await site.trial("reef", "mine", "detector")
    site.upstreams["reef/detector"].gate.clear()
    long = bytes(2_000_000)
    asked = {**BINARY, "pelagos-length": "1"}
    calls = [asyncio.create_task(site.ask("POST", INFER, long, token=token, **asked)) for _ in range(3)]
    await until(lambda: len(site.upstreams["reef/detector"].reached) == 3)
    assert (await site.ask("POST", INFER, long, token=token, **asked)).status == 429
    site.upstreams["reef/detector"].gate.set()
    assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 3


def test_while_places_for_long_bodies_are_few_each_caller_has_one() -> None:
    callers = Callers(Limits(per_minute=100, at_once=8, uploads=3, all_uploads=6))
    for call in ("a1", "a2", "b1", "b2"):
        assert callers.begin(call[0], call, 0.0, is_upload=True) is None
    told = callers.begin("a", "a3", 0.0, is_upload=True)
    assert told is not None
    assert told.message.startswith(
        "2 of your bodies of more than a mebibyte are being sent, and others are also waiting"
    )
    assert callers.begin("a", "short", 0.0) is None
    assert callers.begin("c", "c1", 0.0, is_upload=True) is None
    callers.end("b1")
    callers.end("c1")
    assert callers.begin("a", "a3", 0.0, is_upload=True) is None
    for call in ("a4", "a5"):
        assert callers.begin("a", call, Limits.longest_call + 1, is_upload=True) is None, (
            "nobody told of the end of others"
        )
    callers.end_all()
    for call in ("a6", "a7", "a8"):
        assert callers.begin("a", call, Limits.longest_call + 2, is_upload=True) is None


def test_a_call_whose_end_nobody_tells_is_forgotten() -> None:
    callers = Callers(Limits(per_minute=100, at_once=1))
    assert callers.begin("ada", "1", 0.0) is None
    assert isinstance(callers.begin("ada", "2", Limits.longest_call), Exceeded)
    assert callers.begin("ada", "2", Limits.longest_call + 1) is None


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
