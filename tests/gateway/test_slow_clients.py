"""Slow clients and models, through the real Envoy: each request has a time to arrive in, and one to be answered in."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gateway.sites import INFER, Site, running, talk, until
from gateway.test_streams import STREAM, Stream, request
from pelagos.engines.envoy.config import MIB, Limits

MODEL = "/reef/detector/v2/models/detector"
DETECTOR = (("pelagos-service", "reef/detector"),)
SOON = 20


@contextlib.asynccontextmanager
async def slow_line(address: str, fast: int = 2000, piece: int = 50, pause: float = 0.05) -> AsyncIterator[str]:
    """An address behind which ``fast`` bytes of a client come at once, and then ``piece`` bytes each ``pause`` seconds."""
    tasks: set[asyncio.Task[None]] = set()

    async def forth(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while data := await reader.read(fast if sent < fast else piece):
            writer.write(data)
            await writer.drain()
            sent += len(data)
            await asyncio.sleep(pause if sent >= fast else 0)

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        behind, before = await asyncio.open_connection(*address.split(":"))
        ways = [asyncio.create_task(forth(reader, before)), asyncio.create_task(back(behind, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (before, writer):
                each.close()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def one_second(environments: Path, **given: Any) -> AsyncIterator[Site]:
    async with running(environments, upload_seconds=1, **given) as site:
        await site.serve("reef", "detector")
        yield site


async def refusal(address: str, body: bytes, token: str) -> tuple[str, str]:
    """How a gRPC call without a deadline ends."""
    metadata = (*DETECTOR, ("authorization", f"Bearer {token}"))
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(INFER)(body, metadata=metadata)
        async with asyncio.timeout(SOON):
            return (await call.code()).name, await call.details()


def post(token: str, *more: str) -> bytes:
    lines = [f"POST {MODEL}/infer HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_call_that_trickles_in_is_ended_in_words_and_gives_its_place_back(environments: Path) -> None:
    async with one_second(environments) as site:
        token = await site.trial("reef", "mine", "detector")
        async with slow_line(site.grpc) as line:
            code, words = await refusal(line, bytes(MIB), token)
        assert (code, words.split(":")[0]) == ("DEADLINE_EXCEEDED", "The request did not arrive in time")
        assert "all of it 1 s. Send smaller images" in words
        await until(lambda: not site.gateway._callers.in_progress)
        assert site.upstreams["reef/detector"].reached == []


async def test_a_body_that_trickles_in_is_ended_in_words_and_gives_its_place_back(environments: Path) -> None:
    binary = "Inference-Header-Content-Length: 0"
    kinds = [(f"Content-Length: {MIB}",), (binary, f"Content-Length: {MIB}"), (binary, f"Content-Length: {2 * MIB}"),
             (binary, "Transfer-Encoding: chunked")]  # fmt: skip
    async with one_second(environments) as site:
        token = await site.trial("reef", "mine", "detector")
        async with slow_line(site.http) as line, asyncio.timeout(SOON):
            asked = (talk(line, post(token, *headers) + b"80000\r\n" + bytes(MIB // 2)) for headers in kinds)
            answers = await asyncio.gather(*asked)
        for answer, headers in zip(answers, kinds, strict=True):
            assert (answer.status, answer.error.split(":")[0]) == (408, "The request did not arrive in time"), headers
            assert answer.headers["connection"] == "close"
        await until(lambda: not site.gateway._callers.in_progress)
        assert site.upstreams["reef/detector"].reached == []


async def test_a_stream_is_not_cut_although_its_messages_come_slowly(environments: Path) -> None:
    async with one_second(environments, open=True) as site:
        began = asyncio.get_running_loop().time()
        async with slow_line(site.grpc, piece=100) as line, grpc.aio.insecure_channel(line) as channel:
            ours = Stream(channel.stream_stream(STREAM)(metadata=DETECTOR))
            for number in range(2):
                assert (await ours.ask(request(number, bytes(2500)))).HasField("infer_response")
            await ours.call.done_writing()
            assert await ours.status() == ("OK", "")
        assert asyncio.get_running_loop().time() - began > 1
        assert len(site.upstreams["reef/detector"].reached) == 2


async def test_a_call_in_which_no_message_ever_comes_is_no_way_to_hold_a_place(environments: Path) -> None:
    async with one_second(environments) as site:
        token = await site.trial("reef", "mine", "detector")
        metadata = [("authorization", f"Bearer {token}")]
        async with grpc.aio.insecure_channel(site.grpc) as channel, asyncio.timeout(SOON):
            calls = [channel.stream_unary(INFER)(metadata=metadata) for _ in range(3)]
            assert {await call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await until(lambda: not site.gateway._callers.in_progress)


async def test_a_model_that_does_not_answer_is_waited_for_so_long(environments: Path) -> None:
    limits = Limits(answer_seconds=1, idle_seconds=1)
    async with running(environments, open=True, limits=limits) as site:
        upstream = await site.serve("reef", "detector")
        upstream.gate.clear()
        ready = await site.ask("GET", "/reef/detector/v2/health/ready")
        assert (ready.status, ready.error.split(",")[0]) == (504, "The model did not answer in time")
        code, words = await site.call(pelagos_service="reef/detector")
        assert (code, words.split(",")[0]) == ("DEADLINE_EXCEEDED", "The model did not answer in time")
        upstream.gate.set()
        assert (await site.ask("GET", "/reef/detector/v2/health/ready")).status == 200
        assert json.loads((await site.ask("GET", MODEL)).body)["model_name"] == "detector"
