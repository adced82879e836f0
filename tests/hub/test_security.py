"""What every answer of the hub contains, and what it refuses before it reads a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from catalogued import served
from hub_sites import Site
from pelagos_hub import health

PATHS = ["/", "/static/hub.css", "/no/such/page", "/api/no-such.json"]


@pytest.fixture
def site() -> Site:
    """A hub in which nobody is logged in."""
    return Site()


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_forbids_what_is_not_ours(site: Site, path: str) -> None:
    async with site.visitor() as visitor:
        answer = await visitor.get(path)

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "server" not in answer.headers


async def test_a_fault_of_ours_is_a_page_with_the_same_headers_and_without_its_cause(site: Site) -> None:
    async def fails(_request: Request) -> Response:
        raise KeyError("CANARY")

    site.app.router.routes.append(Route("/fails", fails))
    async with site.visitor() as visitor:
        answer = await visitor.get("/fails")

    assert answer.status_code == 500
    assert "The hub failed" in answer.text
    assert "CANARY" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:9", "127.0.0.1:8088.evil.example", "localhost:8088", ""])
async def test_the_hub_answers_under_its_own_name_alone(site: Site, host: str) -> None:
    async with site.visitor() as visitor:
        answer = await visitor.get("/", headers={"Host": host})

    assert answer.status_code == 421
    assert "PELAGOS_HUB_URL" in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("10.1.2.3:8080", 200),
        ("[::1]:8080", 200),
        ("localhost:1", 200),
        ("pelagos-hub.pelagos-system.svc:8080", 200),
        ("evil.example:8080", 421),
        ("10.1.2.3.evil.example", 421),
        ("evil.svc.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_metrics_are_told_to_addresses_and_names_that_no_page_has(site: Site, host: str, status: int) -> None:
    transport = httpx2.ASGITransport(health.make_app(site.hub))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as asker:
        assert (await asker.get("/metrics", headers={"Host": host})).status_code == status


async def test_behind_https_the_port_may_be_said_or_left_out() -> None:
    site = Site(url="https://models.example.org")
    async with site.visitor() as visitor:
        for host in ("models.example.org", "models.example.org:443", "MODELS.example.org"):
            answer = await visitor.get("/", headers={"Host": host})
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"].startswith("max-age=")


async def test_a_body_that_is_too_large_is_refused_by_its_announcement_and_by_its_bytes(site: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    async with site.visitor() as visitor:
        announced = await visitor.post("/logout", headers={"Content-Length": str(10**9)}, content=b"x")
        lied = await visitor.post("/logout", headers={"Content-Length": "-5"}, content=b"x")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        streamed = await visitor.post("/reads", content=endless(), headers=form)

    assert announced.status_code == lied.status_code == 413
    assert streamed.status_code == 404  # nobody read it

    async def reads(request: Request) -> Response:
        async with request.form():
            return Response()

    site.app.router.routes.append(Route("/reads", reads, methods=["POST"]))
    async with site.visitor() as visitor:
        streamed = await visitor.post("/reads", content=endless(), headers=form)
    assert streamed.status_code == 413


async def test_an_address_that_is_too_long_is_refused(site: Site) -> None:
    async with site.visitor() as visitor:
        assert (await visitor.get("/?q=" + "x" * 5000)).status_code == 414


async def test_names_of_strangers_are_shown_and_never_obeyed(site: Site) -> None:
    site.cluster.put(served("<script>alert(1)</script>\x1b[31m"))
    async with site.visitor() as visitor:
        page = (await visitor.get("/")).text

    assert "<script>alert" not in page
    assert "\x1b" not in page


async def test_a_program_gets_a_problem_as_json(site: Site) -> None:
    async with site.visitor() as visitor:
        answer = await visitor.get("/nothing", headers={"Accept": "application/json"})

    assert answer.status_code == 404
    assert answer.json()["error"]["summary"] == "There is nothing here"


async def test_while_the_cluster_is_away_pages_show_what_was_there_and_say_how_old_it_is(site: Site) -> None:
    site.cluster.put(served("plankton"))
    async with site.visitor() as visitor:
        fresh = (await visitor.get("/")).text
        site.cluster.problem = "connection refused"
        site.clock.seconds += 200
        stale = (await visitor.get("/")).text
        site.cluster.heard = None
        never = (await visitor.get("/")).text

    assert "does not answer" not in fresh
    assert "plankton" in stale
    assert "You see its state of 3 min ago" in stale
    assert "has not answered yet" in never


async def test_no_page_costs_more_for_many_visitors_at_once(site: Site) -> None:
    async with site.visitor() as visitor:
        answers = await asyncio.gather(*(visitor.get("/") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    counted = site.hub.metrics.registry.get_sample_value("pelagos_hub_requests_total", {"route": "/", "code": "200"})
    assert counted == 50


async def test_what_no_route_answers_is_one_row_of_the_metrics(site: Site) -> None:
    async with site.visitor() as visitor:
        for step in range(3):
            await visitor.get(f"/made-up-{step}")
    metrics = site.hub.metrics.registry
    assert metrics.get_sample_value("pelagos_hub_requests_total", {"route": "none", "code": "404"}) == 3
