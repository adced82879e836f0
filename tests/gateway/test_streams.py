"""Streams of inferences through the real Envoy: each message is a separate call, and checked like one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2

from gateway.sites import INFER, Site, running, until
from pelagos.engines.envoy.config import MIB, Limits
from pelagos_gateway import streaming

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclasses.dataclass
class Stream:
    """A client's stream. Answers have the type that Triton's clients read."""

    call: Any

    async def ask(self, request: bytes) -> Any:
        await self.call.write(request)
        async with asyncio.timeout(20):
            answer = await self.call.read()
        assert answer is not grpc.aio.EOF, await self.status()
        return service_pb2.ModelStreamInferResponse.FromString(answer)

    async def status(self) -> tuple[str, str]:
        async with asyncio.timeout(20):
            return (await self.call.code()).name, await self.call.details()


@contextlib.asynccontextmanager
async def stream(site: Site, token: str = "", **metadata: str) -> AsyncIterator[Stream]:
    told = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    if token:
        told.append(("authorization", f"Bearer {token}"))
    async with grpc.aio.insecure_channel(site.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        call = channel.stream_stream(STREAM)(metadata=told)
        yield Stream(call)
        call.cancel()


def request(number: int, content: bytes = b"") -> bytes:
    return bytes(
        service_pb2.ModelInferRequest(
            model_name="detector", id=f"image {number}", raw_input_contents=[content]
        ).SerializeToString()
    )


async def test_messages_reach_the_service_as_calls_and_are_answered_in_order(two_services: Site) -> None:
    site, detector = two_services, two_services.upstreams["reef/detector"]
    token = await site.trial("reef", "mine", "detector")
    sent = [request(number, bytes(200_000)) for number in range(5)]
    async with stream(site, token) as ours:
        for each in sent:
            assert (await ours.ask(each)).HasField("infer_response")
        await ours.call.done_writing()
        assert await ours.call.read() is grpc.aio.EOF
        assert await ours.status() == ("OK", "")
    assert [(path, body) for path, body, _ in detector.reached] == [(INFER, each) for each in sent]
    for _, _, headers in detector.reached:
        assert "authorization" not in headers
        assert not [name for name in headers if name.startswith("pelagos")]
    await until(lambda: site.gateway._callers.in_progress == 0)


async def test_a_stream_without_a_right_is_not_opened(two_services: Site) -> None:
    async with stream(two_services, pelagos_service="reef/detector") as nobodys:
        assert (await nobodys.status())[0] == "UNAUTHENTICATED"
    token = await two_services.trial("reef", "mine", "detector")
    async with stream(two_services, token, pelagos_service="reef/classifier") as others:
        assert (await others.status())[0] == "PERMISSION_DENIED"
    assert [each.reached for each in two_services.upstreams.values()] == [[], []]


async def test_a_stream_outlives_no_trial(two_services: Site) -> None:
    site = two_services
    token = await site.trial("reef", "mine", "detector", seconds=60)
    async with stream(site, token) as ours:
        await ours.ask(request(1))
        site.clock.ahead = 61
        await ours.call.write(request(2))
        code, words = await ours.status()
        assert (code, words.split(",")[0]) == ("UNAUTHENTICATED", "This trial has ended")
    assert len(site.upstreams["reef/detector"].reached) == 1


async def test_what_is_wrong_with_one_message_is_said_of_that_alone(two_services: Site) -> None:
    site = two_services
    token = await site.trial("reef", "mine", "detector")
    async with stream(site, token) as ours:
        site.upstreams["reef/detector"].failure = (grpc.StatusCode.INVALID_ARGUMENT, "no image in it")
        told = await ours.ask(request(7))
        assert (told.error_message, told.infer_response.id) == ("no image in it", "image 7")
        site.upstreams["reef/detector"].failure = None
        assert not (await ours.ask(request(8))).error_message


async def test_a_stream_that_is_faster_than_allowed_is_slowed_and_loses_nothing(
    environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_PAUSE_SECONDS", 0.05)
    async with running(environments, requests_per_minute=3) as site:
        upstream = await site.serve("reef", "detector")
        token = await site.trial("reef", "mine", "detector")
        async with stream(site, token) as ours:
            await ours.ask(request(1))
            await ours.ask(request(2))
            third = asyncio.create_task(ours.ask(request(3)))
            await asyncio.sleep(0.3)
            assert not third.done(), "the stream and two messages are all that a minute has"
            site.clock.ahead = 21
            assert not (await third).error_message
        assert len(upstream.reached) == 3


async def test_messages_are_bounded_and_so_are_streams(two_services: Site) -> None:
    site = two_services
    token, other = await site.trial("reef", "mine", "detector"), await site.trial("reef", "other", "detector")
    async with stream(site, token) as first, stream(site, token) as second:
        await first.ask(request(1))
        await second.ask(request(2))
        async with stream(site, token) as third:
            code, words = await third.status()
            assert (code, words.split(",")[0]) == ("RESOURCE_EXHAUSTED", "2 of your streams are open")
        async with stream(site, other) as others:
            await others.ask(request(3))
        await second.call.write(request(4, bytes(streaming.MESSAGE_BYTES + MIB)))
        assert (await second.status())[0] == "RESOURCE_EXHAUSTED"
        await first.ask(request(5))
    await until(lambda: not site.gateway._callers.in_progress)
    assert len(site.upstreams["reef/detector"].reached) == 4


async def test_no_stream_is_forever(environments: Path) -> None:
    async with running(environments, limits=Limits(stream_seconds=1)) as site:
        await site.serve("reef", "detector")
        token = await site.trial("reef", "mine", "detector")
        async with stream(site, token) as ours:
            await ours.ask(request(1))
            code, words = await ours.status()
            assert (code, words) == ("DEADLINE_EXCEEDED", "A stream may last 1 s: open another one, and continue there")
        await until(lambda: not site.gateway._callers.in_progress)


async def test_a_compressed_stream_is_not_taken(two_services: Site) -> None:
    token = await two_services.trial("reef", "mine", "detector")
    metadata = [("authorization", f"Bearer {token}")]
    async with grpc.aio.insecure_channel(two_services.grpc) as channel:
        call = channel.stream_stream(STREAM)(metadata=metadata, compression=grpc.Compression.Gzip)
        assert (await Stream(call).status())[0] == "PERMISSION_DENIED"
    assert two_services.upstreams["reef/detector"].reached == []


async def test_a_stream_in_which_nothing_comes_is_ended_in_words(
    two_services: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "IDLE_SECONDS", 0.5)
    token = await two_services.trial("reef", "mine", "detector")
    async with stream(two_services, token) as ours:
        await ours.ask(request(1))
        code, words = await ours.status()
        assert (code, words.split(":")[0]) == ("DEADLINE_EXCEEDED", "No complete message arrived for 0.5 s")
    await until(lambda: not two_services.gateway._servers[2]._open)


@pytest.mark.parametrize("message", [b"", b"\xff" * 30, b"\x1a\xff\x01", b"\x00" * 5000, b"\x0b\x0c", b"\x1a\x7fabc"])
def test_a_message_that_cannot_be_read_has_no_id(message: bytes) -> None:
    assert streaming._identifier(message) == b""


def test_the_id_of_a_message_is_found_wherever_it_stands() -> None:
    parts = [
        service_pb2.ModelInferRequest(raw_input_contents=[bytes(300)]),
        service_pb2.ModelInferRequest(model_name="detector", outputs=[{"name": "prediction"}]),
        service_pb2.ModelInferRequest(id="é" * 100),
    ]
    message = b"".join(part.SerializeToString() for part in parts)
    assert streaming._identifier(message).decode() == "é" * 100
