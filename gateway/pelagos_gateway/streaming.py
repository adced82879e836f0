"""Streams of inferences (ModelStreamInfer): each message is forwarded as a unary call, through the gateway's own gRPC port.

So each message is authorized and counted like any other call, with the token of its stream, and all rules for calls apply to it.
Model servers never see streams. The messages of a stream are answered one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pelagos.engines.envoy import shared
from pelagos.engines.envoy.config import MIB
from pelagos_gateway.judging import TOO_MUCH
from pelagos_gateway.metrics import METRICS

logger = logging.getLogger(__name__)

MESSAGE_BYTES = 8 * MIB
"""Longest message: this program holds one whole message in memory for each open stream."""
AT_ONCE, AT_ONCE_OF_ONE = 16, 2
"""Most open streams in all, and most with the same credentials. A stream holds its place as long as it is open."""
_UNARY = "/inference.GRPCInferenceService/ModelInfer"
_ENDING = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
"""Codes that end a stream, since its next messages would be refused for the same reason."""
_PAUSE_SECONDS = 1.0
IDLE_SECONDS = 60.0
"""Time within which a whole message must arrive."""
_PASSED = ("authorization", shared.SERVICE)
_LENGTHS = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", -1)]
_ANY_LENGTH = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_ID, _MOST_FIELDS = 3, 1000
"""Number of the protobuf field ``id`` in requests and responses; and most fields of a message that are searched for it."""


class _IdleError(Exception):
    """No message arrived within ``IDLE_SECONDS``."""


class Streams:
    """The server, on a Unix socket that only the owner can open. ``gateway`` is ``host:port`` where Envoy listens for gRPC.

    A call may take ``answer_seconds``, a stream ``stream_seconds``.
    """

    def __init__(self, path: Path, gateway: str, answer_seconds: float, stream_seconds: float) -> None:
        self._path = path
        self._gateway = gateway
        self._answer_seconds = answer_seconds
        self._stream_seconds = stream_seconds
        self._open: Counter[str] = Counter()
        self._services: Counter[str] = Counter()
        self._server: Any = None

    async def start(self) -> None:
        """Listen; removes a socket left by an earlier process."""
        METRICS.streams_limit.set(AT_ONCE)
        self._path.unlink(missing_ok=True)
        self._server = grpc.aio.server(options=_LENGTHS)
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop, and abort open streams."""
        if self._server is not None:
            await self._server.stop(None)
        self._path.unlink(missing_ok=True)

    async def answer(self, messages: AsyncIterator[bytes], context: Any) -> None:
        """Answer each message, until the client ends the stream, the time limit is reached or the right to call ends."""
        metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        service = shared.service_of(metadata.get(shared.CHOSEN, ""))
        with self._place(service, metadata.get("authorization", "")) as trouble:
            if trouble:
                METRICS.refused(HTTPStatus.TOO_MANY_REQUESTS)
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, trouble)
            # Start the response now: otherwise Envoy times out while it waits for the end of the request.
            await context.send_initial_metadata(())
            passed = [(name, metadata[name]) for name in _PASSED if name in metadata]
            try:
                async with (
                    asyncio.timeout(self._stream_seconds),
                    grpc.aio.insecure_channel(self._gateway, _ANY_LENGTH) as channel,
                ):
                    call = channel.unary_unary(_UNARY)
                    while (message := await _next(messages)) is not None:
                        await context.write(await self._ask(call, message, passed))
            except _IdleError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"No complete message arrived for {IDLE_SECONDS:g} s: open another stream when you have one",
                )
            except TimeoutError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"A stream may last {self._stream_seconds:g} s: open another one, and continue there",
                )
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

    async def _ask(self, call: Any, message: bytes, metadata: list[tuple[str, str]]) -> bytes:
        """The answer to one message, as an encoded ModelStreamInferResponse. Raises AioRpcError when the stream must end."""
        while True:
            try:
                return _field(2, await call(message, timeout=self._answer_seconds, metadata=metadata))
            except grpc.aio.AioRpcError as error:
                details = error.details() or error.code().name
                if error.code() in _ENDING:
                    raise
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and details.startswith(TOO_MUCH):
                    # Not reported to the client: a stream that exceeds its rate is slowed down instead.
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                return _field(1, details.encode()) + _field(2, _field(_ID, _identifier(message)))

    @contextlib.contextmanager
    def _place(self, service: str, authorization: str) -> Iterator[str]:
        """Hold a place for a stream to ``service``; yields an empty string, or the reason why no place is free."""
        whose = hashlib.sha256(authorization.encode()).hexdigest() if authorization else ""
        if self._open.total() >= AT_ONCE:
            yield f"{AT_ONCE} streams are open, which is the maximum: send single calls, or try again later"
            return
        if whose and self._open[whose] >= AT_ONCE_OF_ONE:
            yield f"{AT_ONCE_OF_ONE} of your streams are open, which is the maximum: end one, or send single calls"
            return
        self._open[whose] += 1
        self._services[service] += 1
        METRICS.streams(service, self._services[service])
        try:
            yield ""
        finally:
            self._open[whose] -= 1
            self._services[service] -= 1
            METRICS.streams(service, self._services[service])
            # Drop those whose count is zero.
            self._open += Counter()
            self._services += Counter()


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method != shared.STREAM:
            return None
        return grpc.stream_stream_rpc_method_handler(self._streams.answer)


async def _next(messages: AsyncIterator[bytes]) -> bytes | None:
    """The next message; None at the end of the stream. Raises _IdleError."""
    waited = asyncio.ensure_future(anext(messages, None))
    try:
        done, _ = await asyncio.wait((waited,), timeout=IDLE_SECONDS)
    finally:
        if not waited.done():
            waited.cancel()
    if not done:
        raise _IdleError
    return waited.result()


def _field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited protobuf field: text, bytes or another message."""
    length, size = bytearray(), len(content)
    while True:
        size, low = size >> 7, size & 0x7F
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes((number << 3 | 2, *length)) + content


def _identifier(message: bytes) -> bytes:
    """The id that the client gave an encoded request; empty where there is none or it cannot be read."""
    at = 0
    try:
        for _ in range(_MOST_FIELDS):
            tag, at = _varint(message, at)
            size, wire = {1: 8, 5: 4}.get(tag & 7, 0), tag & 7
            if wire in {0, 2}:
                size, at = _varint(message, at)
            if tag == _ID << 3 | 2 and at + size <= len(message):
                return message[at : at + size]
            at += size if wire else 0
    except IndexError:
        pass
    return b""


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = message[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise IndexError
