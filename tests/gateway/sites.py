"""A gateway for tests: the real one with the real Envoy, before small servers that record what reaches them.

The API server is a fake one. Time is that of ``Site.clock``, which tests move.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import grpc.aio
from aiohttp import web

from gateway.api_server import ApiServer
from pelagos.engines.envoy.config import Limits
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos_gateway.app import Gateway
from pelagos_gateway.settings import Settings

INFER = "/inference.GRPCInferenceService/ModelInfer"
BINARY = {"Inference-Header-Content-Length": "0"}


@dataclass
class Clock:
    """A monotonic clock in seconds, ``ahead`` of the machine's."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


@dataclass
class Upstream:
    """The server of one service, with the requests that reached it. It answers while ``gate`` is open."""

    name: str
    host: str = "127.0.0.1"
    http: str = ""
    grpc: str = ""
    reached: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failure: tuple[Any, str] | None = None
    long: int = 0
    """Bytes by which its answers are longer."""
    certificate: tuple[Path, Path] | None = None
    """A certificate with its key, where it speaks TLS."""
    _runner: web.ServerRunner | None = None
    _server: Any = None

    async def start(self) -> None:
        self.gate.set()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            body = b"".join([chunk async for chunk in request.content.iter_any()])
            self.reached.append((request.raw_path, body, {k.lower(): v for k, v in request.headers.items()}))
            await self.gate.wait()
            more = {"more": "x" * self.long} if self.long else {}
            return web.json_response({"model_name": self.name, "outputs": [], **more})

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(handler, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # noqa: N805
                async def call(body: bytes, context: Any) -> bytes:
                    metadata = {key: str(value) for key, value in context.invocation_metadata()}
                    self.reached.append((str(details.method), body, metadata))
                    await self.gate.wait()
                    if self.failure is not None:
                        await context.abort(*self.failure)
                    return bytes(self.long)

                return grpc.unary_unary_rpc_method_handler(call)

        self._runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        tls = None
        if self.certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(*self.certificate)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.http = f"http{'s' if tls else ''}://{self.host}:{self._runner.addresses[0][1]}"
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers((Handler(),))
        if self.certificate is not None:
            pair = [(self.certificate[1].read_bytes(), self.certificate[0].read_bytes())]
            port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
        else:
            port = self._server.add_insecure_port("127.0.0.1:0")
        self.grpc = f"{self.host}:{port}"
        await self._server.start()

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        await self._server.stop(None)

    def status(self) -> dict[str, Any]:
        return {"endpoints": {"http": self.http, "grpc": self.grpc, "metrics": f"{self.http}/metrics"}}


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


@dataclass
class Site:
    """The gateway and everything around it."""

    api: ApiServer
    gateway: Gateway
    settings: Settings
    clock: Clock
    folder: Path
    stopping: asyncio.Event
    upstreams: dict[str, Upstream] = field(default_factory=dict)

    async def serve(self, namespace: str, name: str, **given: Any) -> Upstream:
        """Add a service; returns once the gateway knows it."""
        upstream = Upstream(name, **given)
        await upstream.start()
        self.upstreams[f"{namespace}/{name}"] = upstream
        await self.api.put("modelservices", namespace, name, status=upstream.status())
        await until(lambda: f"{namespace}.{name}-grpc" in (self.settings.folder / "clusters.json").read_text())
        await until_true(lambda: self.knows(f"{namespace}.{name}-grpc"))
        return upstream

    async def knows(self, cluster: str) -> bool:
        """Whether Envoy knows the cluster."""
        return f"{cluster}::" in (await self.gateway._files.ask("GET", "clusters") or "")

    async def trial(
        self,
        namespace: str,
        name: str,
        service: str,
        seconds: float = 600,
        duration: str = "10m",
        metadata: dict[str, Any] | None = None,
        **status: Any,
    ) -> str:
        """Add an open trial; returns its token."""
        token = f"pt_{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(token.encode()).hexdigest()
        ends = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        told = {
            "phase": "Open",
            "tokenSha256": digest,
            "expiresAt": ends,
            "service": {"name": service, "namespace": namespace},
            **status,
        }
        spec = {"user": "ada", "duration": duration}
        await self.api.put("trials", namespace, name, metadata=metadata or {}, spec=spec, status=told)
        await until(lambda: self.gateway._trials.opened(token, 0) is not None)
        return token

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.settings.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.settings.grpc_port}"

    async def ask(self, method: str, path: str, body: bytes | None = None, token: str = "", **headers: Any) -> Answer:
        """Send one HTTP request, written by hand so that its path stays as given."""
        given = {"Host": "localhost", "Connection": "close"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if token:
            given["Authorization"] = f"Bearer {token}"
        if body is not None and "Transfer-Encoding" not in given:
            given.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in given.items()), "", ""]
        return await talk(self.http, "\r\n".join(lines).encode() + (body or b""))

    async def call(
        self, method: str = INFER, body: bytes = b"", token: str = "", authority: str = "", **metadata: Any
    ) -> tuple[str, str]:
        """The status of a gRPC call: its name and its message."""
        options = [("grpc.max_send_message_length", -1), ("grpc.default_authority", authority or self.grpc)]
        told = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        if token:
            told.append(("authorization", f"Bearer {token}"))
        async with grpc.aio.insecure_channel(self.grpc, options) as channel:
            try:
                await channel.unary_unary(method)(body, timeout=20, metadata=told)
            except grpc.aio.AioRpcError as error:
                return error.code().name, error.details() or ""
        return "OK", ""


async def talk(address: str, data: bytes) -> Answer:
    """Send, and read the answer to its end."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").strip().split("\r\n")
            headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", 0))
            return Answer(int(first.split()[1]), headers, await reader.readexactly(length))
    finally:
        writer.close()


async def until(holds: Any, seconds: float = 60) -> None:
    """Wait until it holds; an OSError counts as not yet."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(OSError):
                if holds():
                    return
            await asyncio.sleep(0.02)


async def until_true(asks: Any, seconds: float = 60) -> None:
    """The same for something that is awaited."""
    async with asyncio.timeout(seconds):
        while not await asks():  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.02)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def envoy_program(environments: Path) -> Path:
    return next((environments / "triton").glob("lib/python3.*/site-packages/envoy/_bin/envoy"))


@contextlib.asynccontextmanager
async def running(
    environments: Path, identities: Any = None, limits: Limits | None = None, *, waits: bool = True, **given: Any
) -> AsyncIterator[Site]:
    """A running gateway with these settings; ``waits`` until it is ready."""
    folder = Path(tempfile.mkdtemp(prefix="pelagos-"))
    http, rpc, metrics = free_ports(3)
    usual: dict[str, Any] = {
        "folder": folder / "envoy",
        "sockets": folder / "run",
        "envoy": envoy_program(environments),
        "http_port": http,
        "grpc_port": rpc,
        "metrics_port": metrics,
        "operator_namespace": "pelagos",
    }
    settings = Settings(**(usual | given))
    api = ApiServer()
    await api.start()
    clock = Clock()
    gateway = Gateway(settings, KubernetesRest(api.url, tls=None), identities, limits=limits, clock=clock)
    stopping = asyncio.Event()
    task = asyncio.create_task(gateway.run(stopping.wait()))
    site = Site(api, gateway, settings, clock, folder, stopping)
    try:
        if waits:
            await until_true(gateway._files.is_ready)
        yield site
        assert stopping.is_set() or not task.done(), task.result()
    finally:
        stopping.set()
        await task
        await api.stop()
        for upstream in site.upstreams.values():
            await upstream.stop()
        shutil.rmtree(folder)
