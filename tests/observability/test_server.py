"""/metrics, /healthz and /readyz over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pelagos.observability import server
from pelagos.observability.server import Server


@dataclass
class Vitals:
    """The operator's state that the server asks for."""

    beat: float
    problem: str | None = None


@pytest.fixture
def vitals() -> Vitals:
    return Vitals(beat=time.monotonic())


@pytest.fixture
async def running(vitals: Vitals) -> AsyncIterator[Server]:
    made = Server(lambda: vitals.beat, lambda: vitals.problem)
    await made.start("127.0.0.1", 0)
    yield made
    await made.stop()


async def get(running: Server, path: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{running.port}{path}") as answer,
    ):
        return answer.status, await answer.text(), answer.headers["Content-Type"]


async def test_metrics_are_in_prometheus_text_format(running: Server) -> None:
    status, text, content_type = await get(running, "/metrics")

    names = {family.name for family in text_string_to_metric_families(text)}
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert {"pelagos_queue_depth", "pelagos_reconciles", "process_resident_memory_bytes"} <= names


async def test_a_loop_that_turns_is_alive(running: Server) -> None:
    assert (await get(running, "/healthz"))[:2] == (200, "ok\n")


async def test_a_loop_that_stands_still_is_dead(running: Server, vitals: Vitals) -> None:
    vitals.beat -= server.LONGEST_SILENCE + 1

    status, text, _ = await get(running, "/healthz")

    assert status == 503
    assert text == "the event loop has not turned for 16 s\n"


async def test_readiness_tells_what_is_missing(running: Server, vitals: Vitals) -> None:
    assert (await get(running, "/readyz"))[:2] == (200, "ok\n")

    vitals.problem = "the CRDs are not installed"

    assert (await get(running, "/readyz"))[:2] == (503, "the CRDs are not installed\n")


async def test_who_leads_is_told_by_an_operator_that_is_ready(vitals: Vitals) -> None:
    made = Server(lambda: vitals.beat, lambda: vitals.problem, standing=lambda: "standby; the other leads")
    await made.start("127.0.0.1", 0)

    assert (await get(made, "/readyz"))[:2] == (200, "ok: standby; the other leads\n")
    vitals.problem = "tracking: no answer"
    assert (await get(made, "/readyz"))[:2] == (503, "tracking: no answer\n")
    await made.stop()


async def test_a_watch_that_is_silent_is_a_reason_to_start_anew(vitals: Vitals) -> None:
    made = Server(lambda: vitals.beat, lambda: None, silent=lambda: "the watch of Dataset has been silent")
    await made.start("127.0.0.1", 0)

    assert (await get(made, "/healthz"))[:2] == (503, "the watch of Dataset has been silent\n")
    assert (await get(made, "/readyz"))[0] == 200
    await made.stop()


async def test_other_paths_are_not_there(running: Server) -> None:
    assert (await get(running, "/"))[0] == 404


async def test_a_free_port_is_told_and_given_back(vitals: Vitals) -> None:
    first = Server(lambda: vitals.beat, lambda: None)
    await first.start("127.0.0.1", 0)
    port = first.port
    await first.stop()

    again = Server(lambda: vitals.beat, lambda: None)
    await again.start("127.0.0.1", port)

    assert again.port == port > 0
    await again.stop()


async def test_a_server_that_never_started_can_be_stopped(vitals: Vitals) -> None:
    await Server(lambda: vitals.beat, lambda: None).stop()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9", 200),
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("metrics.example.org", 200),
        ("Metrics.Example.org.:8080", 200),
        ("pelagos-operator-metrics.pelagos-system.svc:8080", 200),
        ("pelagos-operator-metrics.pelagos-system.svc.cluster.local", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.svc.example", 421),
        ("10.0.0.7:8080", 421),
        ("localhost:8080@evil.example", 421),
        ("localhost:", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_it_answers_under_its_own_names_alone(vitals: Vitals, host: str, status: int) -> None:
    made = Server(lambda: vitals.beat, lambda: vitals.problem)
    await made.start("127.0.0.1", 0, ["metrics.example.org", ""])
    for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{made.port}{path}", headers={"Host": host}) as answer,
        ):
            assert answer.status == (404 if path == "/nothing" and status == 200 else status)
    await made.stop()


async def test_a_pod_answers_when_it_is_asked_by_its_address(vitals: Vitals) -> None:
    made = Server(lambda: vitals.beat, lambda: vitals.problem)
    await made.start("0.0.0.0", 0)
    for address, host, status in (("127.0.0.2", "127.0.0.2", 200), ("127.0.0.2", "127.0.0.3", 421)):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}:{made.port}/metrics", headers={"Host": host}) as answer,
        ):
            assert answer.status == status
    await made.stop()


async def test_without_a_name_or_with_two_it_does_not_answer(running: Server) -> None:
    for head in (b"GET /metrics HTTP/1.0\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head)
        line = await reader.readline()
        assert line.split()[1] in {b"400", b"421"}
        writer.close()
        await writer.wait_closed()
