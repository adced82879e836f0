"""What only the local Triton servers promise: they outlive the operator, survive crashes of it, and can be trusted."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import uuid
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from model_packages import altered
from pelagos.engines import triton_inference
from pelagos.engines.triton_local import TritonLocal
from pelagos.engines.triton_local_server import SECRET_HEADER, ServerFolder
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import ServiceSeen, ServiceState, ServiceWant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    MakeWant = Callable[..., ServiceWant]


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


@pytest.fixture
async def triton(tmp_path: Path, environments: Path, uid: str) -> AsyncIterator[TritonLocal]:
    triton = TritonLocal(tmp_path, environments)
    yield triton
    await triton.remove(uid)
    await triton.close()
    assert processes_of(tmp_path) == []
    assert shared_memory(tmp_path, uid) == []


def service(home: Path, uid: str) -> Path:
    return home / "services" / uid


def state(home: Path, uid: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((service(home, uid) / "state.json").read_text())
    return content


def shared_memory(home: Path, uid: str) -> list[Path]:
    prefix = ServerFolder(service(home, uid), home, home)._shared_memory
    return list(Path("/dev/shm").glob(f"{prefix}*"))


def processes_of(home: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(home / "services") in command:
            found.append(int(path.parent.name))
    return found


async def settled(triton: TritonLocal, uid: str) -> ServiceSeen:
    deadline = monotonic() + 60
    while True:
        seen = await triton.observe(uid)
        assert seen is not None
        if seen.state is not ServiceState.STARTING:
            return seen
        assert monotonic() < deadline
        await asyncio.sleep(0.1)


def copy_of_package(want: ServiceWant, folder: Path) -> ServiceWant:
    shutil.copytree(want.package_uri, folder)
    return ServiceWant(**{**vars(want), "package_uri": str(folder), "digest": "copied"})


async def test_a_new_operator_finds_the_server_again(
    triton: TritonLocal, tmp_path: Path, environments: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    before = await settled(triton, uid)
    pid = state(tmp_path, uid)["process"]["pid"]
    successor = TritonLocal(tmp_path, environments)
    await successor.apply(want)
    after = await successor.observe(uid)
    assert after is not None
    assert (after.state, after.restarts, after.grpc_url) == (ServiceState.LOADED, 0, before.grpc_url)
    assert state(tmp_path, uid)["process"]["pid"] == pid
    assert (await successor.probe(uid)).correct
    await successor.close()


async def test_a_crash_after_the_start_leaves_no_second_server(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    """The operator died between starting the process and writing down which one it is."""
    want = make_want(uid=uid)
    await triton.apply(want)
    lost = state(tmp_path, uid)
    path = service(tmp_path, uid) / "state.json"
    path.write_text(json.dumps(lost | {"process": None}))
    dead = await triton.observe(uid)
    assert dead is not None
    assert dead.state is ServiceState.DEAD
    await triton.apply(want)
    seen = await settled(triton, uid)
    assert (seen.state, seen.restarts) == (ServiceState.LOADED, 0)
    assert lost["process"]["pid"] not in processes_of(tmp_path)


async def test_a_deleted_folder_does_not_hide_its_server(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    assert processes_of(tmp_path) != []
    assert shared_memory(tmp_path, uid) != []
    shutil.rmtree(service(tmp_path, uid))
    await triton.remove(uid)
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("name", ["served", "state.json"])
async def test_what_was_deleted_below_a_server_is_made_again(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant, name: str
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    await settled(triton, uid)
    path = service(tmp_path, uid) / name
    path.rename(tmp_path / "lost")
    assert await triton.observe(uid) is None
    await triton.apply(want)
    assert (await settled(triton, uid)).state is ServiceState.LOADED
    assert (await triton.probe(uid)).correct
    assert len([pid for pid in processes_of(tmp_path) if b"tritonserver" in program(pid)]) == 1


def program(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]


async def test_a_server_that_hangs_fails_its_probe_and_is_cured(
    tmp_path: Path, environments: Path, uid: str, make_want: MakeWant
) -> None:
    triton = TritonLocal(tmp_path, environments, probe_timeout=0.5)
    want = make_want(uid=uid)
    await triton.apply(want)
    await settled(triton, uid)
    os.kill(state(tmp_path, uid)["process"]["pid"], signal.SIGSTOP)
    seen = await triton.observe(uid)
    assert seen is not None
    assert (seen.state, seen.message) == (ServiceState.LOADED, "the server does not answer its health check")
    probe = await triton.probe(uid)
    assert (probe.correct, probe.message) == (False, "no answer within 0.5 s")
    await triton.restart(uid)
    await triton.apply(want)
    assert (await settled(triton, uid)).restarts == 1
    assert (await triton.probe(uid)).correct
    await triton.remove(uid)
    await triton.close()


async def test_an_answer_unlike_that_of_the_training_framework_is_not_correct(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want, other = make_want(uid=uid), tmp_path / "other"
    known = json.loads((Path(want.package_uri) / "probe.json").read_text())
    known["detections"][0]["box"][0] += 3
    manifest, _ = altered(Path(want.package_uri), other, {"probe.json": json.dumps(known).encode()})
    await triton.apply(make_want(uid=uid, package_uri=str(other), manifest_sha256=manifest))
    assert (await settled(triton, uid)).state is ServiceState.LOADED
    probe = await triton.probe(uid)
    assert not probe.correct
    assert probe.message.startswith("missing: Ceratium with score 0.902 at [19.0, 0.0, 32.0, 16.0]")


async def test_settings_reach_the_model(triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid, confidence="0.75")
    await triton.apply(want)
    seen = await settled(triton, uid)
    image = (Path(want.package_uri) / "probe.png").read_bytes()
    answer, _ = await triton_inference.infer(seen.grpc_url, want.model_name, image, 10)
    assert [round(found["score"], 1) for found in answer["detections"]] == [0.9, 0.8]


async def test_what_is_no_image_gets_an_error_that_says_so(triton: TritonLocal, uid: str, make_want: MakeWant) -> None:
    await triton.apply(make_want(uid=uid))
    seen = await settled(triton, uid)
    with pytest.raises(triton_inference.InferenceError, match="neither JPEG nor PNG"):
        await triton_inference.infer(seen.grpc_url, "detector", b"text", 10)
    assert (await triton.probe(uid)).correct


async def test_a_package_that_was_deleted_is_still_served_after_a_death(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = copy_of_package(make_want(uid=uid), tmp_path / "package")
    await triton.apply(want)
    await settled(triton, uid)
    shutil.rmtree(tmp_path / "package")
    await triton.restart(uid)
    await triton.apply(want)
    assert (await settled(triton, uid)).state is ServiceState.LOADED


async def test_a_refused_change_leaves_the_server_alone(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    before = await settled(triton, uid)
    with pytest.raises(RejectedError, match=f"instead of {'0' * 64}"):
        await triton.apply(make_want(uid=uid, manifest_sha256="0" * 64))
    assert await triton.observe(uid) == before
    assert (await triton.probe(uid)).correct


async def test_a_port_that_somebody_took_is_given_up(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    await settled(triton, uid)
    ports = state(tmp_path, uid)["ports"]
    await triton.restart(uid)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", ports["grpc"]))
        taken.listen()
        await triton.apply(want)
        assert (await settled(triton, uid)).state is ServiceState.LOADED
    assert state(tmp_path, uid)["ports"]["grpc"] != ports["grpc"]


async def test_everything_but_inference_and_health_asks_for_a_secret(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    seen = await settled(triton, uid)
    path = service(tmp_path, uid) / "state.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = {SECRET_HEADER: state(tmp_path, uid)["secret"]}
    index = f"{seen.http_url}/v2/repository/index"
    async with aiohttp.ClientSession() as session:
        for method, url in [
            ("POST", index),
            ("POST", f"{seen.http_url}/v2/repository/models/detector/unload"),
            ("GET", f"{seen.http_url}/v2/models/detector/config"),
            ("POST", f"{seen.http_url}/v2/logging"),
            ("GET", f"{seen.http_url}/v2/systemsharedmemory/status"),
        ]:
            async with session.request(method, url) as response:
                assert response.status == 403, url
        async with session.post(index, headers=secret) as response:
            assert response.status == 200
    assert (await triton.probe(uid)).correct


async def test_a_flood_of_chunks_does_not_kill_the_server(triton: TritonLocal, uid: str, make_want: MakeWant) -> None:
    """CVE-2025-23310: this release dies of it where the repository API is open."""
    await triton.apply(make_want(uid=uid))
    seen = await settled(triton, uid)
    host, port = seen.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"1\r\nx\r\n" * 600_000 + b"0\r\n\r\n")
    assert b"403" in await reader.readline()
    writer.close()
    assert (await triton.probe(uid)).correct


async def test_nothing_is_left_but_the_files_that_are_kept(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    await triton.remove(uid, keep_files=True)
    assert processes_of(tmp_path) == []
    assert (service(tmp_path, uid) / "served/repository/detector/1/model.onnx").is_file()
    await triton.remove(uid)
    assert list((tmp_path / "services").iterdir()) == []


async def test_the_log_stays_small(triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    log = service(tmp_path, uid) / "triton.log"
    with log.open("ab") as file:
        file.write(b"filler\n" * 1_300_000 + b"the end\n")
    await triton.observe(uid)
    assert log.stat().st_size == 1024 * 1024
    assert log.read_bytes().endswith(b"the end\n")


async def test_without_the_environment_the_server_is_an_outage(tmp_path: Path, uid: str, make_want: MakeWant) -> None:
    triton = TritonLocal(tmp_path, tmp_path)
    with pytest.raises(OutageError, match="tritonserver is not installed; run `make install`"):
        await triton.apply(make_want(uid=uid))
    await triton.close()


@pytest.mark.parametrize("uid", ["", "../x", "a/b", ".hidden"])
async def test_a_uid_is_no_path(tmp_path: Path, uid: str) -> None:
    triton = TritonLocal(tmp_path, tmp_path)
    with pytest.raises(RejectedError, match="is no uid"):
        await triton.observe(uid)
