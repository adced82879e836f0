"""Requests that must not pass the gateway from any sender. The real Envoy before servers that record what reaches them."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.sites import BINARY, Site, running, talk, until_true
from pelagos.engines.envoy.config import MIB, Limits

READY = "/reef/detector/v2/health/ready"
MODEL = "/reef/detector/v2/models/detector"
SERVICE = "/inference.GRPCInferenceService"
PATHS = [
    "/reef/detector/v2/../../classifier/v2/health/ready",
    "/reef/detector/v2/%2e%2e/%2e%2e/classifier/v2/health/ready",
    "/reef/detector/v2/..%2f..%2fclassifier/v2",
    "/reef/detector/v2/models/detector%2f..%2f..%2frepository/index",
    "/reef/detector/v2/models/detector/..;/../repository/index",
    "//reef//classifier//v2",
    "/reef/./classifier/v2",
    "/reef/classifier%00/v2",
    "/reef/detector/../classifier/v2",
    "/REEF/classifier/v2",
    "/reef/classifier/v2/",
    "/reef/classifier",
    "/v2/health/ready",
    "/",
    "*",
    "http://localhost/reef/classifier/v2",
    "/reef/detector/v2?x=/reef/classifier/v2",
    "/reef/detector/v2/repository/index#/v2",
]
SMUGGLED: list[dict[str, Any]] = [
    {"pelagos-cluster": "reef.classifier-http"},
    {"Pelagos-Cluster": "pelagos-authority"},
    {"pelagos-labels": "reef/classifier open", "x-request-id": "mine"},
    {"x-envoy-auth-headers-to-remove": "host"},
    {"x-envoy-original-path": "/reef/classifier/v2"},
    {"x-envoy-upstream-alt-stat-name": "x", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "9"},
    {"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "reef"},
    {"pelagos-service": "reef/classifier"},
    {"Connection": "close, authorization"},
]
UNUSABLE = [
    "Bearer",
    "Bearer ",
    "Basic eDp5",
    "Bearer a b",
    f"Bearer {'x' * 13000}",
    "bearer\tx",
    "Bearer é",
    "Bearer none",
]


async def test_only_health_metadata_and_inference_pass(open_site: Site) -> None:
    site = open_site
    upstream = await site.serve("reef", "detector")
    for method, path in [
        *[("GET", f"/reef/detector/v2{path}") for path in ("", "/health/live", "/health/ready")],
        *[("GET", MODEL), ("GET", f"{MODEL}/ready"), ("GET", f"{MODEL}/versions/1/ready")],
    ]:
        assert (await site.ask(method, path)).status == 200, path
    assert len(upstream.reached) == 6
    upstream.reached.clear()
    for method, path in [
        ("POST", "/reef/detector/v2/repository/index"),
        ("POST", "/reef/detector/v2/repository/models/detector/load"),
        ("POST", "/reef/detector/v2/repository/models/detector/unload"),
        ("GET", f"{MODEL}/config"),
        ("GET", f"{MODEL}/stats"),
        ("POST", f"{MODEL}/generate"),
        ("POST", "/reef/detector/v2/logging"),
        ("POST", "/reef/detector/v2/trace/setting"),
        ("GET", "/reef/detector/v2/systemsharedmemory/status"),
        ("POST", "/reef/detector/v2/systemsharedmemory/region/x/register"),
        ("DELETE", MODEL),
        ("GET", f"{MODEL}/infer"),
    ]:
        answer = await site.ask(method, path, b"{}" if method == "POST" else None)
        assert answer.status == 403, path
    for name in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "ModelConfig", "ModelStatistics",
                 "SystemSharedMemoryRegister", "LogSettings", "TraceSetting"):  # fmt: skip
        told = await site.call(f"{SERVICE}/{name}", pelagos_service="reef/detector")
        assert told[0] == "PERMISSION_DENIED", name
    assert upstream.reached == []


async def test_no_spelling_of_a_path_leads_elsewhere(two_services: Site) -> None:
    token = await two_services.trial("reef", "mine", "detector")
    for path in PATHS:
        answer = await two_services.ask("GET", path, token=token)
        assert two_services.upstreams["reef/classifier"].reached == [], (path, answer)
    reached = {path.partition("?")[0] for path, _, _ in two_services.upstreams["reef/detector"].reached}
    assert reached == {"/v2"}


async def test_headers_of_a_client_choose_nothing(two_services: Site) -> None:
    token = await two_services.trial("reef", "mine", "detector")
    detector, classifier = (two_services.upstreams[f"reef/{name}"] for name in ("detector", "classifier"))
    for smuggled in SMUGGLED:
        answer = await two_services.ask("GET", READY, token=token, **smuggled)
        assert answer.status in {200, 400, 401}, smuggled
        metadata = {name.lower(): value for name, value in smuggled.items() if name.lower() != "connection"}
        await two_services.call(token=token, **metadata)
        assert classifier.reached == [], smuggled
    assert len(detector.reached) > len(SMUGGLED)
    for _, _, headers in detector.reached:
        told = {name for name in headers if name.startswith(("pelagos", "x-envoy")) or name == "authorization"}
        assert told <= {"x-envoy-expected-rq-timeout-ms", "x-envoy-external-address"}
        assert headers["x-request-id"] != "mine"


async def test_two_lengths_or_two_hosts_are_no_way_in(two_services: Site) -> None:
    token = await two_services.trial("reef", "mine", "detector")
    lines = [
        "POST /reef/detector/v2/models/detector/infer HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {token}",
    ]
    for more in (
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Transfer-Encoding: chunked, identity"],
        ["Host: other", "Content-Length: 0"],
        ["Content-Length: -1"],
    ):
        answer = await talk(two_services.http, "\r\n".join([*lines, *more, "", ""]).encode() + b"0\r\n\r\n")
        assert answer.status in {400, 403, 501}, more
    assert two_services.upstreams["reef/detector"].reached == []


async def test_a_page_of_another_name_reaches_nothing(open_site: Site) -> None:
    upstream = await open_site.serve("reef", "detector")
    answer = await open_site.ask("GET", READY, Host="evil.example")
    assert answer.status == 403
    assert b"must be one of 127.0.0.1, localhost" in answer.body
    code, words = await open_site.call(authority="evil.example", pelagos_service="reef/detector")
    assert (code, words.split(",")[0]) == ("PERMISSION_DENIED", "The Host header")
    assert upstream.reached == []
    assert (await open_site.ask("GET", READY, Host="127.0.0.1:1234")).status == 200
    assert await open_site.call(authority="localhost:1234", pelagos_service="reef/detector") == ("OK", "")


async def test_a_body_is_as_long_as_allowed_and_comes_in_time(open_site: Site) -> None:
    site = open_site
    upstream = await site.serve("reef", "detector")
    huge = await site.ask("POST", f"{MODEL}/infer", b"", **BINARY, Content_Length=str(70 * 1024 * 1024))
    assert huge.status == 413
    assert huge.body.startswith(
        b"The body is too long: at most 68157440 bytes are accepted for an inference with binary"
    )
    text = await site.ask("POST", f"{MODEL}/infer", b"", Content_Length=str(25 * 1024 * 1024))
    assert text.status == 413
    packed = await site.ask("POST", f"{MODEL}/infer", b"x", **BINARY, Content_Encoding="gzip")
    assert packed.status == 415
    assert upstream.reached == []


async def test_who_is_slow_is_told_so_and_holds_no_connection(environments: Path) -> None:
    limits = Limits(headers_seconds=1, upload_seconds=1)
    async with running(environments, open=True, limits=limits) as site:
        upstream = await site.serve("reef", "detector")
        request = f"POST {MODEL}/infer HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: 0\r\n".encode()
        never_told = await talk(site.http, request + b"X: 1")
        never_sent = await talk(site.http, request + b"Content-Length: 2000000\r\n\r\nx")
        assert (never_told.status, never_sent.status) == (408, 408)
        assert upstream.reached == []


async def test_the_largest_images_pass(open_site: Site) -> None:
    upstream = await open_site.serve("reef", "detector")
    image = bytes(40 * MIB)
    assert (await open_site.ask("POST", f"{MODEL}/infer", image, **BINARY)).status == 200
    assert await open_site.call(body=image, pelagos_service="reef/detector") == ("OK", "")
    assert [len(body) for _, body, _ in upstream.reached] == [len(image)] * 2
    code, _ = await open_site.call(body=bytes(66 * MIB), pelagos_service="reef/detector")
    assert code in {"RESOURCE_EXHAUSTED", "UNKNOWN"}
    assert len(upstream.reached) == 2


async def test_a_token_is_judged_before_its_body_comes(site: Site) -> None:
    await site.serve("reef", "detector")
    async with asyncio.timeout(5):
        answer = await site.ask("POST", f"{MODEL}/infer", b"", **BINARY, Content_Length=str(60 * 1024 * 1024))
    assert answer.status == 401


async def test_credentials_that_are_no_token_are_refused_in_words(two_services: Site) -> None:
    for authorization in UNUSABLE:
        answer = await two_services.ask("GET", READY, Authorization=authorization)
        assert answer.status == 401, authorization
        assert answer.headers["www-authenticate"].startswith('Bearer realm="pelagos", error="invalid_')
        assert len(answer.error) > 20


async def test_what_is_there_is_told_to_nobody_who_may_not_call_it(two_services: Site) -> None:
    answers = {
        (await two_services.ask("GET", f"{path}/v2")).body for path in ("/reef/detector", "/reef/nothing", "/x/y")
    }
    assert len(answers) == 1
    token = await two_services.trial("reef", "of-nothing", "nothing")
    answer = await two_services.ask("GET", "/reef/nothing/v2", token=token)
    assert (answer.status, answer.error.split(":")[0]) == (404, "reef/nothing is not served")


async def test_without_the_authority_nothing_passes(open_site: Site) -> None:
    await open_site.serve("reef", "detector")
    assert (await open_site.ask("GET", READY)).status == 200
    authority = open_site.gateway._servers[0]
    await authority.stop()
    assert (await open_site.ask("GET", READY)).status == 503
    assert (await open_site.call(pelagos_service="reef/detector"))[0] == "UNAVAILABLE"
    await authority.start()
    assert (await open_site.ask("GET", READY)).status == 200


async def test_an_envoy_that_is_killed_is_back_at_its_ports(open_site: Site) -> None:
    await open_site.serve("reef", "detector")
    envoy = open_site.gateway.envoy
    assert envoy is not None
    killed = envoy.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    async def answers() -> bool:
        try:
            return envoy.pid != killed and (await open_site.ask("GET", READY)).status == 200
        except OSError:
            return False

    await until_true(answers)


async def test_sockets_and_files_are_the_owners_alone(site: Site) -> None:
    assert stat.S_IMODE(site.settings.sockets.stat().st_mode) == 0o700
    found = [*site.settings.sockets.iterdir(), *site.settings.folder.iterdir()]
    assert {path.name for path in found} >= {"authority", "converter", "journal", "admin", "listeners.json"}
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_callers_without_credentials_are_let_in_on_loopback_alone(environments: Path) -> None:
    with pytest.raises(ValueError, match="only admitted on loopback"):
        async with running(environments, open=True, address="0.0.0.0"):
            pass
