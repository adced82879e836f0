"""Slow clients and models, through the real Envoy: each request has a time to arrive in, and one to be answered in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gateway.sites import INFER, Site, running, talk, until
from gateway.test_streams import STREAM, Stream, request
from pelagos.engines.envoy.config import MIB, Limits

MODEL = "/reef/detector/v2/models/detector"
READY = "/reef/detector/v2/health/ready"
DETECTOR = (("pelagos-service", "reef/detector"),)
SOON = 20


@contextlib.asynccontextmanager
async def slow_line(
    address: str, fast: int = 2000, piece: int = 50, pause: float = 0.05, *, reads: bool = False
) -> AsyncIterator[str]:
    """An address behind which ``fast`` bytes of a client come at once, and then ``piece`` bytes each ``pause`` seconds.

    With ``reads``, it is the answers that come so.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        behind, before = await asyncio.open_connection(*address.split(":"))
        forth, back = (0.0, pause) if reads else (pause, 0.0)
        ways = [
            asyncio.create_task(_passed(reader, before, fast, piece, forth)),
            asyncio.create_task(_passed(behind, writer, fast, piece, back)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for each in (before, writer):
                each.close()
        except asyncio.CancelledError:  # at the end of the test
            for each in (before, writer):
                each.transport.abort()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _passed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fast: int, piece: int, pause: float
) -> None:
    sent = 0
    while data := await reader.read(65536 if not pause else fast if sent < fast else piece):
        writer.write(data)
        await writer.drain()
        sent += len(data)
        await asyncio.sleep(pause if sent >= fast else 0)


@contextlib.asynccontextmanager
async def one_second(environments: Path, **given: Any) -> AsyncIterator[Site]:
    async with running(environments, upload_seconds=1, **given) as site:
        await site.serve("reef", "detector")
        yield site


async def refusal(address: str, body: bytes, token: str) -> tuple[str, str]:
    """How a gRPC call without a deadline ends."""
    metadata = (*DETECTOR, ("authorization", f"Bearer {token}"))
    async with grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
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
    async with running(environments, open=True, limits=Limits(upload_seconds=1, answer_seconds=1)) as site:
        await site.serve("reef", "detector")
        began = asyncio.get_running_loop().time()
        async with slow_line(site.grpc, piece=100) as line, grpc.aio.insecure_channel(line) as channel:
            ours = Stream(channel.stream_stream(STREAM)(metadata=DETECTOR))
            for number in range(3):
                assert (await ours.ask(request(number, bytes(2500)))).HasField("infer_response")
            await ours.call.done_writing()
            assert await ours.status() == ("OK", "")
        assert asyncio.get_running_loop().time() - began > 2
        assert len(site.upstreams["reef/detector"].reached) == 3


async def test_a_call_in_which_no_message_ever_comes_is_no_way_to_hold_a_place(environments: Path) -> None:
    async with one_second(environments) as site:
        token = await site.trial("reef", "mine", "detector")
        metadata = [("authorization", f"Bearer {token}")]
        async with grpc.aio.insecure_channel(site.grpc) as channel, asyncio.timeout(SOON):
            calls = [channel.stream_unary(INFER)(metadata=metadata) for _ in range(3)]
            assert {await call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await until(lambda: not site.gateway._callers.in_progress)


async def test_who_reads_an_answer_slowly_holds_a_place_no_longer_than_a_request_may_take(environments: Path) -> None:
    limits = Limits(upload_seconds=1, answer_seconds=1)
    async with running(environments, limits=limits) as site:
        upstream = await site.serve("reef", "detector")
        upstream.long = 16 * MIB
        token = await site.trial("reef", "mine", "detector")
        asked = post(token, "Inference-Header-Content-Length: 0", "Content-Length: 0")
        async with slow_line(site.http, reads=True) as http, slow_line(site.grpc, reads=True) as rpc:
            slow = [asyncio.create_task(talk(http, asked)), asyncio.create_task(refusal(rpc, b"", token))]
            await until(lambda: len(upstream.reached) == len(slow))
            await until(lambda: not site.gateway._callers.in_progress, SOON / 2)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)


async def test_a_model_that_does_not_answer_is_waited_for_so_long(environments: Path) -> None:
    limits = Limits(upload_seconds=1, answer_seconds=1)
    async with running(environments, limits=limits) as site:
        upstream = await site.serve("reef", "detector")
        token = await site.trial("reef", "mine", "detector")
        upstream.gate.clear()
        answer, (code, words) = await asyncio.gather(
            site.ask("GET", READY, token=token), refusal(site.grpc, b"", token)
        )
        assert (answer.status, answer.error.split(",")[0]) == (504, "The model did not answer in time")
        assert (code, words.split(",")[0]) == ("DEADLINE_EXCEEDED", "The model did not answer in time")
        upstream.gate.set()
