"""Local Triton servers behind their Envoy: who reaches what, requests that must not kill it, changes that lose no request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

import model_packages
from local_triton import (
    altered,
    command_line,
    folder,
    listening,
    loaded,
    processes_of,
    program,
    server,
    service,
    settled,
    shared_memory,
    triton,
    uid,
)
from pelagos.engines.processes import groups, locks, sockets
from pelagos.engines.triton import inference
from pelagos.engines.triton_local import records
from pelagos.ports.serving import Scaling, ServiceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from pelagos.engines.triton_local.engine import TritonLocal
    from pelagos.ports.serving import DesiredService

    MakeWant = Callable[..., DesiredService]

__all__ = ["triton", "uid"]


async def test_a_port_that_somebody_took_while_no_gateway_ran_is_given_up(
    triton: TritonLocal, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    await triton.close()
    before, gateway = triton.gateway.ports(uid), triton.gateway.process
    assert before is not None
    assert gateway is not None
    assert await triton.gateway.trouble() is None
    await groups.kill_group(gateway, 0)
    assert await triton.gateway.trouble() == "no Envoy runs in front of 1 model server"
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", before.grpc))
        taken.listen()
        assert (await loaded(triton, uid)).grpc_url != f"127.0.0.1:{before.grpc}"
        assert (await triton.probe(uid)).correct


async def test_an_endpoint_that_is_removed_while_somebody_looks_after_the_gateway_does_not_come_back(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    await triton.close()
    async with locks.held("Envoy", tmp_path / "gateway" / ".lock"):
        waiting = asyncio.create_task(triton._keep())
        await asyncio.sleep(0.2)
        records.forget(service(tmp_path, uid))

    await waiting

    assert triton.gateway.process is None
    assert [pid for pid in processes_of(tmp_path) if b"envoy" in program(pid)] == []


async def test_a_gateway_that_was_killed_is_back_in_seconds_at_the_same_addresses(
    triton: TritonLocal, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    before = await settled(triton, uid)
    gateway = triton.gateway.process
    assert gateway is not None
    os.kill(gateway.pid, signal.SIGKILL)
    image = (Path(want.package_uri) / "probe.png").read_bytes()
    async with asyncio.timeout(60):
        while triton.gateway.process == gateway:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.1)
        after = await loaded(triton, uid)
    assert (after.grpc_url, after.restarts) == (before.grpc_url, 0)
    await inference.infer(after.grpc_url, want.model_name, image, 10)


async def test_nothing_but_the_gateway_listens_on_a_port_and_files_are_the_owners(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    seen = await settled(triton, uid)
    image = (Path(want.package_uri) / "probe.png").read_bytes()
    await inference.infer(seen.grpc_url, want.model_name, image, 10)
    gateway, ports = triton.gateway.process, triton.gateway.ports(uid)
    assert gateway is not None
    assert ports is not None
    assert listening(gateway.pid) == {("127.0.0.1", port) for port in vars(ports).values()}
    for process in set(processes_of(tmp_path)) - {gateway.pid}:
        assert listening(process) == set(), program(process)
    run, upstream, regions = sockets.folder(tmp_path), folder(tmp_path, uid).upstream, shared_memory(tmp_path, uid)
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert regions != []
    found = [*run.iterdir(), Path(upstream.grpc), *regions, *(tmp_path / "gateway").iterdir()]
    for path in (*found, service(tmp_path, uid) / "state.json", folder(tmp_path, uid).log):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_no_secret_is_in_any_command_line(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    commands = [command_line(process) for process in processes_of(tmp_path)]
    for name in (b"tritonserver", b"envoy", b"python_backend_stub"):
        assert name in b"".join(commands)
    for command in commands:
        assert not re.search(rb"(?i)secret|token|password|restricted", command.replace(os.fsencode(tmp_path), b"")), (
            command
        )


async def test_nobody_loads_a_model_whatever_they_ask(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    seen = await settled(triton, uid)
    async with aiohttp.ClientSession() as session:
        for method, path in [
            ("POST", "v2/repository/index"),
            ("POST", "v2/repository/models/other/load"),
            ("POST", "v2/repository/models/detector/unload"),
            ("GET", "v2/models/detector/config"),
            ("POST", "v2/logging"),
            ("GET", "v2/systemsharedmemory/status"),
        ]:
            async with session.request(method, f"{seen.http_url}/{path}") as response:
                assert response.status == 403, path
    # Not even through the server's own socket: the server itself accepts no such requests.
    connector = aiohttp.UnixConnector(folder(tmp_path, uid).upstream.http)
    async with aiohttp.ClientSession(connector=connector) as session:
        for path in ("v2/repository/models/detector/unload", "v2/repository/models/detector/load"):
            async with session.post(f"http://localhost/{path}") as response:
                assert response.status >= 400
                assert "not allowed" in await response.text()
    assert (await triton.probe(uid)).correct


async def test_malformed_requests_do_not_kill_the_server(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    """CVE-2025-23310 is about chunks; and this release dies of one request for the classification of texts."""
    await triton.apply(make_want(uid=uid))
    seen = await settled(triton, uid)
    process = server(tmp_path, uid).process
    host, port = seen.http_url.removeprefix("http://").split(":")
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 4}}
    wanted = {"name": "prediction", "parameters": {"classification": 1}}
    fatal = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    negative = json.dumps({"inputs": [tensor | {"shape": [-1, -9223372036854775808]}]}).encode()
    head = b"POST /v2/models/detector/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    described = head + b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n%s\0\0\0\0"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1_500_000 + b"0\r\n\r\n"
    for request in (
        described % (len(fatal), len(fatal) + 4, fatal),
        described % (len(negative), len(negative) + 4, negative),
        described % (len(fatal) + 99, len(fatal) + 4, fatal),
        described % (9999, 9999 + 4, b"[" * 9999),
        head + b"Inference-Header-Content-Length: 9\r\n" + chunked,
        head + b"Content-Encoding: gzip\r\n" + chunked,
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        assert int((await asyncio.wait_for(reader.readline(), 30)).split()[1]) >= 400, request[:300]
        writer.close()
    assert (await triton.probe(uid)).correct
    assert server(tmp_path, uid).process == process
    assert process is not None
    assert groups.is_alive(process)


async def test_a_model_is_changed_without_losing_a_request(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    seen = await settled(triton, uid)
    image = (Path(want.package_uri) / "probe.png").read_bytes()
    found: list[int] = []
    is_over = asyncio.Event()
    asking = [asyncio.create_task(keep_asking(seen.grpc_url, image, found, is_over)) for _ in range(3)]
    asking.append(asyncio.create_task(keep_asking_http(seen.http_url, image, found, is_over)))
    for changed in changes(make_want, uid, tmp_path / "another"):
        await triton.apply(changed)
        after = await settled(triton, uid)
        assert (after.state, after.digest, after.restarts) == (ServiceState.LOADED, changed.digest, 0)
        assert (after.grpc_url, after.http_url, after.metrics_url) == (
            seen.grpc_url,
            seen.http_url,
            seen.metrics_url,
        )
    one, process = server(tmp_path, uid), server(tmp_path, uid).process
    for most in (3, 1):
        scaled = replace(changed, digest=f"up to {most}", scaling=Scaling(maximum=most))
        await triton.apply(scaled)
        kept = await triton.observe(uid)
        assert kept is not None
        assert (kept.state, kept.digest, kept.pods_digest) == (ServiceState.LOADED, scaled.digest, changed.digest)
        assert (server(tmp_path, uid).number, server(tmp_path, uid).process) == (one.number, process)
    async with asyncio.timeout(60):
        while len(list(service(tmp_path, uid).glob("[0-9]*"))) > 1:
            await triton.observe(uid)
            await asyncio.sleep(0.1)
    is_over.set()
    await asyncio.gather(*asking)
    assert len(found) > 20
    assert set(found) == {4, 2, 1}, "detections by old and new thresholds"
    assert len([process for process in processes_of(tmp_path) if b"tritonserver" in program(process)]) == 1


def changes(make_want: MakeWant, uid: str, another: Path) -> tuple[DesiredService, ...]:
    """Other thresholds, another model, and a retry, one after the other."""
    thresholds = make_want(uid=uid, confidence="0.75")
    manifest, onnx = model_packages.altered(Path(thresholds.package_uri), another, {}, architecture="another")
    package = {"package_uri": str(another), "onnx_sha256": onnx, "manifest_sha256": manifest}
    model = make_want(uid=uid, confidence="0.85", **package)
    return thresholds, model, replace(model, digest="retried", pods_digest="retried")


async def keep_asking(address: str, image: bytes, found: list[int], is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        answer, _ = await inference.infer(address, "detector", image, 20)
        found.append(len(answer["detections"]))


async def keep_asking_http(url: str, image: bytes, found: list[int], is_over: asyncio.Event) -> None:
    """Send requests on one connection, with the image alone as the body."""
    async with aiohttp.ClientSession(headers={"Inference-Header-Content-Length": "0"}) as session:
        while not is_over.is_set():
            async with session.post(f"{url}/v2/models/detector/infer", data=image) as response:
                assert response.status == 200, await response.text()
                length = int(response.headers["Inference-Header-Content-Length"])
                outputs = json.loads((await response.read())[:length])["outputs"]
                found.append(next(item["shape"][1] for item in outputs if item["name"] == "scores"))


@pytest.mark.parametrize("fault", ["does not load", "answers wrong"])
async def test_a_new_model_that_is_no_good_leaves_the_old_one_serving(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant, fault: str
) -> None:
    good = make_want(uid=uid)
    await triton.apply(good)
    before = await settled(triton, uid)
    first = server(tmp_path, uid)
    await triton.apply(altered(make_want(uid=uid), tmp_path / "bad", fault))
    seen = await settled(triton, uid)
    assert seen.state is ServiceState.LOAD_FAILED
    assert seen.message.endswith("; the previous model is still served")
    assert ("protobuf parsing failed" if fault == "does not load" else "missing: ceratium") in seen.message.lower()
    assert seen.grpc_url == before.grpc_url
    image = (Path(good.package_uri) / "probe.png").read_bytes()
    answer, _ = await inference.infer(seen.grpc_url, "detector", image, 10)
    assert len(answer["detections"]) == 4
    # It is also started again when it dies in between.
    assert first.process is not None
    os.kill(first.process.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            await triton.observe(uid)
            with contextlib.suppress(inference.InferenceError):
                await inference.infer(seen.grpc_url, "detector", image, 10)
                break
            await asyncio.sleep(0.1)
    await triton.apply(good)
    back = await settled(triton, uid)
    assert (back.state, back.digest) == (ServiceState.LOADED, good.digest)
    assert server(tmp_path, uid).number == first.number
