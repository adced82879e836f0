"""When a model was last probed, from the operator's own metrics, on pages for people and for programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from catalogued import served, trained
from hub_sites import Site
from pelagos.api import kinds
from pelagos.observability.resources import Probe, ResourceCollector
from pelagos.ports.cluster import Resource
from pelagos_hub import probes
from pelagos_hub.probes import Probes


def metrics(*told: tuple[str, str, float]) -> bytes:
    """Metrics as the operator exposes them for services: namespace, name, Unix time."""
    services = [
        Resource(kinds.MODEL_SERVICE, namespace, name, f"{namespace}/{name}", 1, "1", deleting=False)
        for namespace, name, _ in told
    ]
    made = CollectorRegistry()
    made.register(ResourceCollector(lambda: services, {f"{ns}/{name}": Probe(True, 0.1, at) for ns, name, at in told}))
    return generate_latest(made)


@contextlib.asynccontextmanager
async def operator(answers: list[web.Response]) -> AsyncIterator[str]:
    """An operator that gives these answers, one after the other."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return answers.pop(0)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


async def test_pages_say_when_the_operator_last_asked(tmp_path: Path) -> None:
    site = Site(PELAGOS_OBJECTS_ROOT=tmp_path)
    site.cluster.put(served())
    site.cluster.put(trained())
    asked = site.clock.now() - timedelta(seconds=12)
    async with operator([web.Response(body=metrics(("reef", "plankton", asked.timestamp())))]) as address:
        site.hub.probes._address = address
        await site.hub.probes.read()
    async with site.visitor() as visitor:
        for path in ("/", "/models/reef/plankton"):
            assert ">asked 12 s ago<" in (await visitor.get(path)).text, path
        told = (await visitor.get("/api/models/reef/plankton")).json()
    assert told["proof"]["asked"] == asked.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_pages_say_nothing_of_it_where_nobody_tells(tmp_path: Path) -> None:
    site = Site(PELAGOS_OBJECTS_ROOT=tmp_path)
    site.cluster.put(served())
    await site.hub.probes.run()
    async with site.visitor() as visitor:
        assert "asked" not in (await visitor.get("/")).text.partition("</main>")[0]


async def test_an_operator_that_does_not_lead_makes_nothing_older(tmp_path: Path) -> None:
    clock = Site(PELAGOS_OBJECTS_ROOT=tmp_path).clock
    now = clock.now().timestamp()
    answers = [
        web.Response(body=metrics(("reef", "a", now - 5), ("bay", "a", now - 90_000))),
        web.Response(body=metrics(("reef", "a", now - 500))),
        web.Response(body=metrics()),
    ]
    async with operator(answers) as address:
        known = Probes(address, clock.now)
        for _ in range(3):
            await known.read()
            last = known.last("reef", "a")
            assert last is not None
            assert last.timestamp() == pytest.approx(now - 5)
        assert known.last("bay", "a") is None, "a day later it is no news any more"


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=503),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(body=b"x" * 300_000),
        web.Response(body=b"pelagos_service_probe_timestamp_seconds{" + b"x" * 300_000 + b"\n"),
    ],
)
async def test_answers_that_are_no_metrics_change_nothing(answer: web.Response, tmp_path: Path) -> None:
    async with operator([answer]) as address:
        known = Probes(address, Site(PELAGOS_OBJECTS_ROOT=tmp_path).clock.now)
        with pytest.raises(ValueError, match=r"HTTP|in a line"):
            await known.read()
    assert known.last("reef", "a") is None


async def test_lines_that_are_no_times_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = b"pelagos_service_probe_timestamp_seconds"
    lines = [b'{name="a",namespace="reef"} NaN', b'{name="a",namespace="reef"} 1e300', b'{name="<b>",namespace="x"} 1.0',
             b'{name="b",namespace="reef"} 1.7e+09']  # fmt: skip
    body = b"\n".join(family + line for line in lines) + b"\n"
    async with operator([web.Response(body=body), web.Response(body=body)]) as address:
        known = Probes(address, Site(PELAGOS_OBJECTS_ROOT=tmp_path).clock.now)
        await known.read()
        assert (known.last("reef", "a"), known.last("reef", "b") is not None) == (None, True)
        monkeypatch.setattr(probes, "_MOST_BYTES", 100)
        with pytest.raises(ValueError, match="more than 100 bytes"):
            await known.read()
