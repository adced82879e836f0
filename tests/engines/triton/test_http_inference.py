"""One inference by HTTP: to a real server through the real Envoy before it, and with invalid answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from local_triton import triton, uid
from model_packages import MakeWant, environments, make_want, packages
from pelagos.api.service_logins import may_log_in
from pelagos.engines.triton import http_inference, inference, probe
from pelagos.engines.triton.http_inference import Endpoint
from pelagos.engines.triton.inference import InferenceError
from pelagos.ports.serving import ServiceState
from pelagos_contract import kserve_v2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pelagos.engines.triton_local.engine import TritonLocal

__all__ = ["environments", "make_want", "packages", "triton", "uid"]


async def test_the_answer_is_the_one_that_grpc_gets(triton: TritonLocal, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    seen = None
    for _ in range(300):
        seen = await triton.observe(uid)
        if seen is not None and seen.state is ServiceState.LOADED:
            break
        await asyncio.sleep(0.1)
    assert seen is not None
    known = probe.read(Path(want.package_uri))
    endpoint = Endpoint(seen.http_url)

    for options in ({}, {"confidence": 0.85}, {"raw": True}):
        by_http, latency = await http_inference.infer(endpoint, "detector", known.image, 10, **options)
        by_grpc, _ = await inference.infer(seen.grpc_url, "detector", known.image, 10, **options)
        assert by_http == by_grpc
        assert 0 < latency < 10
    proof = await probe.probe(endpoint, want, known)
    assert (proof.correct, proof.message) == (True, "")

    with pytest.raises(InferenceError, match="HTTP 400 the image is not JPEG"):
        await http_inference.infer(endpoint, "detector", b"no image", 10)
    with pytest.raises(InferenceError, match="HTTP 403 This is closed"):
        await http_inference.infer(endpoint, "other", known.image, 10)
    with pytest.raises(InferenceError, match="HTTP 413"):
        await http_inference.infer(endpoint, "detector", bytes(66 * 1024 * 1024), 30)


@pytest.fixture
async def answering() -> AsyncIterator[tuple[str, dict[str, web.Response]]]:
    """A server that answers inferences as the test says."""
    answers: dict[str, web.Response] = {}
    is_over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response()
        await request.read()
        if request.headers.get("Authorization"):
            answers["seen"] = web.Response(text=request.headers["Authorization"])
        found = answers["now"]
        if found.status == 299:
            await is_over.wait()
        return found

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/base", answers
    is_over.set()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 401, "text": "login"}, "the endpoint does not admit us: HTTP 401 login"),
        ({"status": 502, "text": "<html>Bad Gateway</html>"}, "there is no server behind the endpoint now: HTTP 502"),
        ({"status": 400, "text": '{"error": "no such tensor"}'}, "the inference failed: HTTP 400 no such tensor"),
        ({"status": 302, "headers": {"Location": "http://elsewhere.invalid/"}}, "the inference failed: HTTP 302"),
        ({"text": "no"}, "the answer cannot be read"),
        ({"text": "[" * 100_000}, "the answer cannot be read"),
        ({"text": '{"outputs": []}'}, "the answer has no prediction"),
        ({"text": '{"outputs": [{"name": "prediction", "data": []}]}'}, "the answer cannot be read"),
        ({"body": b"{}", "headers": {"Inference-Header-Content-Length": "9"}}, "the length of its header is wrong"),
        ({"body": b"{}", "headers": {"Inference-Header-Content-Length": "-1"}}, "the length of its header is wrong"),
    ],
)
async def test_what_is_no_answer_is_said(
    answering: tuple[str, dict[str, web.Response]], answer: dict[str, object], words: str
) -> None:
    url, answers = answering
    answers["now"] = web.Response(**answer)  # type: ignore[arg-type]
    endpoint = Endpoint(url, "Bearer very-secret")
    with pytest.raises(InferenceError) as caught:
        await http_inference.infer(endpoint, "m", b"image", 5)
    assert words in str(caught.value)
    assert "very-secret" not in f"{caught.value!r}{endpoint!r}"
    assert answers["seen"].text == "Bearer very-secret"


async def test_an_answer_in_json_alone_is_read_as_well(answering: tuple[str, dict[str, web.Response]]) -> None:
    url, answers = answering
    content = {"outputs": [{"name": "other", "data": [1]}, {"name": "prediction", "data": ['{"task": "Detection"}']}]}
    answers["now"] = web.Response(text=json.dumps(content))
    assert (await http_inference.infer(Endpoint(url), "m", b"image", 5))[0] == {"task": "Detection"}


@pytest.mark.parametrize("size", [3, 5, 2**32 - 1])
def test_a_tensor_of_another_length_than_it_says_is_no_answer(size: int) -> None:
    header = json.dumps({"outputs": [{"name": "prediction", "parameters": {"binary_data_size": 8}}]}).encode()
    body = header + size.to_bytes(4, "little") + b"null"
    with pytest.raises(ValueError, match="cannot be read"):
        kserve_v2.prediction(body, str(len(header)))


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://oscar.example/system", True),
        ("http://127.0.0.1:80/", True),
        ("http://[::1]:80/", True),
        ("http://oscar.oscar.svc:8080", True),
        ("http://oscar.example", False),
        ("http://127.0.0.1.example", False),
        ("http://svc.example", False),
        ("ftp://127.0.0.1", False),
    ],
)
def test_a_login_is_sent_where_nobody_reads_it(url: str, may: bool) -> None:
    assert may_log_in(url) is may


async def test_a_server_that_does_not_answer_in_time_is_said(answering: tuple[str, dict[str, web.Response]]) -> None:
    url, answers = answering
    answers["now"] = web.Response(status=299)
    with pytest.raises(InferenceError, match=r"no answer within 0\.2 s"):
        await http_inference.infer(Endpoint(url), "m", b"image", 0.2)
    with pytest.raises(InferenceError, match="the inference failed: "):
        await http_inference.infer(Endpoint("http://127.0.0.1:9"), "m", b"image", 5)


async def test_an_answer_without_end_is_not_read(answering: tuple[str, dict[str, web.Response]]) -> None:
    url, answers = answering
    answers["now"] = web.Response(body=bytes(1001))
    with pytest.raises(InferenceError, match="more than 1000 bytes"):
        await http_inference.infer(Endpoint(url, most=1000), "m", b"image", 5)
