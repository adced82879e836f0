"""Which requests pass Envoy and which do not, shown on the real one before a server that records what reaches it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import stat
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web
from tritonclient.grpc import service_pb2

from pelagos.engines.envoy import config as envoy_config
from pelagos.engines.envoy import routes
from pelagos.engines.envoy.config import Limits, Ports, Service, Upstream

SERVICE = "/inference.GRPCInferenceService"
LIMITS = Limits(request_bytes=1024 * 1024, headers_seconds=1, connections=8)
MEBIBYTE = 1024 * 1024
FEW = Limits(request_bytes=16 * MEBIBYTE, uploads=2, heap_bytes=64 * MEBIBYTE)
LONG = 2_000_000
INFER = "/v2/models/detector/infer"


@dataclass
class Site:
    """Envoy, and the server behind it; ``reached`` are the requests that reached the server, as path and body."""

    http: str
    grpc: str
    metrics: str
    private: Path
    admin: Path
    reached: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="pelagos-") as folder:
        yield Path(folder)


@pytest.fixture
async def site(request: pytest.FixtureRequest, environments: Path, sockets: Path) -> AsyncIterator[Site]:
    """Envoy configured by files that are replaced, as on one machine, or wholly by its bootstrap, as in a pod."""
    http, rpc, metrics = free_ports(3)
    upstream = Upstream(str(sockets / "http"), str(sockets / "grpc"), str(sockets / "metrics"))
    service = Service(
        "svc", "detector", "127.0.0.1", Ports(http, rpc, metrics), upstream, private=str(sockets / "private")
    )
    site = Site(f"127.0.0.1:{http}", f"127.0.0.1:{rpc}", f"127.0.0.1:{metrics}", sockets / "private", sockets / "admin")
    runner, server = await _upstream(upstream, site)
    bootstrap = sockets / "bootstrap.json"
    way = getattr(request, "param", "files")
    if way != "bootstrap":
        limits = way if isinstance(way, Limits) else LIMITS
        _replace(sockets, service, limits)
        bootstrap.write_text(json.dumps(envoy_config.bootstrap(str(site.admin), limits, str(sockets))))
    else:
        bootstrap.write_text(json.dumps(envoy_config.bootstrap(str(site.admin), LIMITS, services=(service,))))
    log = (sockets / "log").open("wb")
    envoy = await asyncio.create_subprocess_exec(
        *(envoy_program(environments), "-c", bootstrap, "--disable-hot-restart", "--concurrency", "1"),
        *("--log-level", "warn"),
        stderr=log,
    )
    try:
        async with asyncio.timeout(20):
            while b"200" not in await ask(site.http, "GET", "/v2/health/ready"):  # noqa: ASYNC110 - there is no notification
                await asyncio.sleep(0.05)
        site.reached.clear()
        yield site
    finally:
        envoy.terminate()
        await envoy.wait()
        log.close()
        await server.stop(None)
        await runner.cleanup()


def envoy_program(environments: Path) -> Path:
    return next((environments / "triton").glob("lib/python3.*/site-packages/envoy/_bin/envoy"))


def _replace(folder: Path, service: Service, limits: Limits) -> None:
    found = {
        "listeners": envoy_config.discovered(envoy_config.LISTENER, envoy_config.listeners((service,), limits), "1"),
        "clusters": envoy_config.discovered(envoy_config.CLUSTER, envoy_config.clusters((service,)), "1"),
    }
    for name, content in found.items():
        partial = folder / f"{name}.partial"
        partial.write_text(json.dumps(content))
        partial.rename(folder / f"{name}.json")


async def _upstream(upstream: Upstream, site: Site) -> tuple[web.AppRunner, grpc.aio.Server]:
    async def answer(request: web.Request) -> web.Response:
        site.reached.append((request.path, await request.read(), dict(request.headers)))
        await asyncio.sleep(0.02)
        return web.Response(text="fine")

    application = web.Application(client_max_size=1024**3)
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    for path in (upstream.http, upstream.metrics):
        await web.UnixSite(runner, path).start()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            async def call(body: bytes, context: Any) -> bytes:
                del context
                site.reached.append((str(details.method), body, {}))
                return b""

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"unix:{upstream.grpc}")
    await server.start()
    return runner, server


async def ask(
    address: str, method: str, path: str, body: bytes | None = None, host: str = "localhost", **headers: Any
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None and "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return await talk(address, "\r\n".join([*lines, "", ""]).encode() + (body or b""))


async def talk(address: str, data: bytes) -> bytes:
    """Send, and read the answer; empty if the other side closes the connection without one."""
    try:
        reader, writer = await asyncio.open_connection(*address.split(":"))
    except OSError:
        return b""
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            return head + (await reader.readexactly(int(length[1])) if length else b"")
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


async def call(site: Site, method: str, message: bytes = b"", **options: Any) -> tuple[str, str]:
    """The status of a gRPC call: its name and its message."""
    target = options.pop("target", site.grpc)
    authority = options.pop("authority", None)
    settings = [("grpc.default_authority", authority)] if authority else []
    async with grpc.aio.insecure_channel(target, [*settings, ("grpc.max_send_message_length", -1)]) as channel:
        try:
            await channel.unary_unary(method)(message, timeout=10, **options)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


def inference(**changes: Any) -> bytes:
    """A valid request, changed."""
    message = service_pb2.ModelInferRequest(model_name="detector", id=changes.get("id", ""))
    tensor = message.inputs.add(name="image", datatype="BYTES")
    tensor.shape.extend(changes.get("shape", [1, 1]))
    tensor.contents.bytes_contents.extend(changes.get("contents", []))
    wanted = message.outputs.add(name="prediction")
    if "classification" in changes:
        wanted.parameters["classification"].int64_param = changes["classification"]
    message.raw_input_contents.extend(changes.get("raw", [b"\5\0\0\0image"]))
    found: bytes = message.SerializeToString()
    return found


def described(**output: Any) -> tuple[bytes, int]:
    """The body of a valid HTTP request, and the length of its JSON."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 9}}
    text = json.dumps({"inputs": [tensor], "outputs": [{"name": "prediction", **output}]}).encode()
    return text + b"\5\0\0\0image", len(text)


@pytest.mark.parametrize("site", ["files", "bootstrap"], indirect=True)
async def test_inference_metadata_and_health_pass_and_all_else_is_closed(site: Site) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/detector", "/v2/models/detector/ready"):
        assert b" 200 " in await ask(site.http, "GET", path), path
    body, length = described()
    for path in (INFER, "/v2/models/detector/versions/1/infer"):
        assert b" 200 " in await ask(site.http, "POST", path, body, Inference_Header_Content_Length=str(length))
    assert b" 200 " in await ask(site.http, "POST", INFER, b"image", Inference_Header_Content_Length="0")
    assert b" 200 " in await ask(site.metrics, "GET", "/metrics")
    for method in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"):
        assert await call(site, f"{SERVICE}/{method}") == ("OK", ""), method
    assert await call(site, "/grpc.health.v1.Health/Check") == ("OK", "")
    assert await call(site, f"{SERVICE}/ModelInfer", inference()) == ("OK", "")
    before = len(site.reached)
    for method, path in [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/detector/load"),
        ("POST", "/v2/models/detector/../../repository/index"),
        ("POST", "//v2//repository/index"),
        ("GET", "/v2/models/detector/config"),
        ("GET", "/v2/models/detector/stats"),
        ("GET", "/v2/models/detectors"),
        ("GET", INFER),
        ("POST", "/v2/models/other/infer"),
        ("POST", "/v2/models/detector/generate"),
        ("POST", "/v2/logging"),
        ("POST", "/v2/trace/setting"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/x/register"),
        ("DELETE", "/v2/models/detector"),
        ("GET", "/metrics"),
    ]:
        answer = await ask(site.http, method, path, b"" if method == "POST" else None)
        assert b" 40" in answer.split(b"\r\n")[0], (path, answer)
    assert b"only inference, metadata and health" in await ask(site.http, "POST", "/v2/repository/index", b"")
    assert b" 403 " in await ask(site.metrics, "GET", "/v2/health/ready")
    for name in ("RepositoryIndex", "RepositoryModelLoad", "ModelConfig", "ModelStatistics", "LogSettings"):
        assert (await call(site, f"{SERVICE}/{name}"))[0] == "PERMISSION_DENIED", name
    for name in ("TraceSetting", "SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "ModelStreamInfer"):
        assert (await call(site, f"{SERVICE}/{name}"))[0] == "PERMISSION_DENIED", name
    assert len(site.reached) == before


async def test_a_host_that_is_not_ours_reaches_nothing(site: Site) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.2", "127.0.0.1.evil.example:80", "*", ""):
        answer = await ask(site.http, "GET", "/v2", host=host)
        assert b" 40" in answer.split(b"\r\n")[0], host
        assert b" 40" in await ask(site.metrics, "GET", "/metrics", host=host)
    assert b"must be one of 127.0.0.1, localhost, [::1]" in await ask(site.http, "GET", "/v2", host="evil.example")
    assert b" 403 " in await ask(site.http, "GET", "http://evil.example/v2")
    code, details = await call(site, f"{SERVICE}/ServerLive", authority="evil.example:9000")
    assert (code, "must be one of" in details) == ("PERMISSION_DENIED", True)
    assert site.reached == []
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]:80"):
        assert b" 200 " in await ask(site.http, "GET", "/v2", host=host), host


async def test_a_flood_of_chunks_arrives_in_one_piece_or_not_at_all(site: Site) -> None:
    """CVE-2025-23310: the server would allocate on its stack for each chunk."""
    head = f"POST {{}} HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: {{}}\r\n{'Transfer-Encoding: chunked'}"
    chunks = b"\r\n\r\n" + b"1\r\n \r\n" * 1_000_000 + b"0\r\n\r\n"
    assert b" 200 " in await talk(site.http, head.format(INFER, 9).encode() + b"\r\nConnection: close" + chunks)
    ((path, body, headers),) = site.reached
    assert (path, len(body), headers["Content-Length"]) == (INFER, 1_000_000, "1000000")
    assert "Transfer-Encoding" not in headers
    for where in ("/v2/repository/index", "/v2/models/other/infer"):
        await talk(site.http, head.format(where, 9).encode() + chunks)
    await talk(site.http, head.format(INFER, 9).encode() + chunks[:-5] + b"1\r\n \r\n" * 60_000 + b"0\r\n\r\n")
    assert len(site.reached) == 1


async def test_bodies_that_the_server_would_choke_on_are_refused_by_name(site: Site) -> None:
    body, length = described()
    bad = [
        (b"x" * LONG, {"Inference_Header_Content_Length": "9"}, 413, b"at most 1048576 bytes"),
        (b"", {"Content_Length": "99999999999", "Inference_Header_Content_Length": "9"}, 413, b"at most 1048576 bytes"),
        (body, {"Inference_Header_Content_Length": str(len(body) + 1)}, 400, f"the body has {len(body)}".encode()),
        (body, {"Inference_Header_Content_Length": "-1"}, 400, b"a number from 0 to 9999"),
        (body, {"Inference_Header_Content_Length": "99999"}, 400, b"a number from 0 to 9999"),
        (body, {"Inference_Header_Content_Length": f"{length}, 5"}, 400, b"a number from 0 to 9999"),
        (b"[" * 20_000, {}, 413, b"9999 for one only in JSON"),
        (body, {"Content_Encoding": "gzip"}, 415, b"compressed body is not accepted"),
        (body, {"Content_Encoding": "identity, deflate"}, 415, b"compressed body is not accepted"),
        (b"", {}, 400, b"The body is empty"),
    ]
    for content, headers, status, message in bad:
        answer = await ask(site.http, "POST", INFER, content, **headers)
        assert f" {status} ".encode() in answer.split(b"\r\n")[0], (headers, answer)
        assert message in answer, (headers, answer)
    assert b" 413 " in await ask(site.http, "GET", "/v2", b"x" * 5000)
    assert (await call(site, f"{SERVICE}/ModelInfer", inference(raw=[b"x" * LONG])))[1].startswith(
        "The body is too long"
    )
    assert (await call(site, f"{SERVICE}/ModelReady", b"\x0a" + b"\xff" * 50_000))[1].startswith("The body is too long")
    zipped = await call(site, f"{SERVICE}/ModelInfer", inference(), compression=grpc.Compression.Gzip)
    assert zipped == ("PERMISSION_DENIED", routes._NO_ENCODING + ".")
    assert site.reached == []


async def test_what_ends_the_server_inside_of_a_message_is_refused(site: Site) -> None:
    body, length = described(parameters={"classification": 1})
    spaced = body.replace(b'ation": 1', b'ation"\n\t:1')
    escaped = body.replace(b"classification", b"\\u0063lassification")
    for content in (body, spaced, escaped):
        size = len(content) - len(body) + length
        answer = await ask(site.http, "POST", INFER, content, Inference_Header_Content_Length=str(size))
        assert b" 400 " in answer, content
        assert b" 400 " in await ask(site.http, "POST", INFER, content[:size]), content
    code, details = await call(site, f"{SERVICE}/ModelInfer", inference(classification=1))
    assert (code, "classification" in details) == ("INVALID_ARGUMENT", True)
    for message, says in [
        (inference(id="x" * 5000), "A field of the message has 5000 bytes"),
        (inference(shape=[1] * 5000), "A field of the message has 5000 bytes"),
        (b"\x0a\x00" * 2000, "more than 1000 fields"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "cannot be read"),
        (b"\xff" * 30, "cannot be read"),
        (b"\x0b", "cannot be read"),
        (b"\x0d\x00", "cannot be read"),
    ]:
        code, details = await call(site, f"{SERVICE}/ModelInfer", message)
        assert (code, says in details) == ("INVALID_ARGUMENT", True), (message[:20], details)
    assert site.reached == []


async def test_images_pass_wherever_a_client_puts_them_and_whatever_they_hold(site: Site) -> None:
    image = b'"classification": \\ ' + bytes(range(256)) * 2000
    packed = struct.pack("<I", len(image)) + image
    for message in (inference(raw=[packed]), inference(raw=[], contents=[image]), inference(raw=[packed[:9]] * 64)):
        assert await call(site, f"{SERVICE}/ModelInfer", message) == ("OK", "")
        assert site.reached.pop()[1] == message
    body, length = described()
    body = body[:length] + packed
    assert b" 200 " in await ask(site.http, "POST", INFER, body, Inference_Header_Content_Length=str(length))
    assert site.reached.pop()[1] == body


async def test_a_client_that_drips_or_takes_all_connections_is_let_go(site: Site) -> None:
    dripping = [await asyncio.open_connection(*site.http.split(":")) for _ in range(LIMITS.connections)]
    for _, writer in dripping:
        writer.write(b"GET /v2 HTTP/1.1\r\n")
    assert await ask(site.http, "GET", "/v2") == b""
    # The operator sends its own requests to a private socket; those of others come in by the ports.
    assert await call(site, f"{SERVICE}/ServerLive", target=f"unix:{site.private}") == ("OK", "")
    assert b" 200 " in await ask(site.metrics, "GET", "/metrics")
    for reader, writer in dripping:
        assert b" 408 " in await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert b" 200 " in await ask(site.http, "GET", "/v2")


@pytest.mark.parametrize("site", [FEW], indirect=True, ids=["few"])
async def test_uploads_that_do_not_end_hold_little_memory_and_leave_room_for_others(site: Site) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: 0\r\nContent-Length: 9000000\r\n\r\n"
    held = [await asyncio.open_connection(*site.http.split(":")) for _ in range(FEW.uploads)]
    for _, writer in held:
        writer.write(head.encode() + b"x" * MEBIBYTE)
        await writer.drain()
    await asyncio.sleep(0.2)
    assert b" 503 " in await talk(site.http, head.encode())
    chunked = head.replace("Content-Length: 9000000", "Transfer-Encoding: chunked")
    assert b" 503 " in await talk(site.http, chunked.encode())
    assert b" 200 " in await ask(site.http, "POST", INFER, b"image", Inference_Header_Content_Length="0")
    assert b" 200 " in await ask(site.http, "GET", "/v2")
    for _, writer in held:
        writer.close()

    async def hold() -> str:
        """Send a large part of a call, and then wait."""

        async def messages() -> AsyncIterator[bytes]:
            yield b"x" * 12 * MEBIBYTE
            await asyncio.sleep(6)

        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(site.grpc, options) as channel:
            try:
                await channel.stream_unary(f"{SERVICE}/ModelInfer")(messages(), timeout=20)
            except grpc.aio.AioRpcError as error:
                return str(error.details())
        return "answered"

    ends = await asyncio.gather(*(hold() for _ in range(10)))
    assert [end for end in ends if "RST_STREAM" in end or "overload" in end] != [], ends
    async with asyncio.timeout(10):
        while (await call(site, f"{SERVICE}/ServerLive"))[0] != "OK":  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.1)


async def test_headers_to_envoy_itself_are_not_believed(site: Site) -> None:
    headers = {"X_Envoy_Upstream_Rq_Timeout_Ms": "1", "X_Envoy_Max_Retries": "99", "X_Forwarded_For": "10.0.0.1"}
    assert b" 200 " in await ask(site.http, "GET", "/v2", None, **headers)
    assert not {"X-Envoy-Upstream-Rq-Timeout-Ms", "X-Envoy-Max-Retries"} & set(site.reached[0][2])


async def test_the_admin_socket_is_for_the_owner_alone(site: Site) -> None:
    assert stat.S_IMODE(site.admin.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.private.stat().st_mode) == 0o600


def test_a_pod_may_admit_any_host_and_reach_its_server_by_address() -> None:
    upstream = Upstream("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
    service = Service("svc", "detector", "0.0.0.0", Ports(8080, 9000, 8002), upstream, hosts=())
    (listener, *_) = envoy_config.listeners((service,), LIMITS)
    manager = listener["filter_chains"][0]["filters"][1]["typed_config"]
    assert [host["domains"] for host in manager["route_config"]["virtual_hosts"]] == [["*"]]
    (cluster, *_) = envoy_config.clusters((service,))
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 8000}}


def test_a_name_that_is_none_is_refused() -> None:
    upstream = Upstream("/a", "/b", "/c")
    service = Service("a b", "detector", "127.0.0.1", Ports(1, 2, 3), upstream)
    with pytest.raises(ValueError, match="is not the name of a listener"):
        envoy_config.listeners((service,), LIMITS)
    assert envoy_config.listeners((replace(service, name="a.b-c_d"),), LIMITS)
