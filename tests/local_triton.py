"""A real TritonLocal for tests, and views of its internals: files, processes, shared memory, listening sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

import model_packages
from pelagos.engines.processes import sockets
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.engines.triton_local.records import Server
from pelagos.engines.triton_local.server import ServerFolder
from pelagos.ports.serving import DesiredService, ObservedService, ServiceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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


def server(home: Path, uid: str) -> Server:
    """The server of the newest desired version."""
    newest = records.read(service(home, uid)).newest
    assert newest is not None
    return newest


def pid(home: Path, uid: str) -> int:
    process = server(home, uid).process
    assert process is not None
    return process.pid


def folder(home: Path, uid: str) -> ServerFolder:
    return ServerFolder(service(home, uid), server(home, uid).number, home, home, sockets.folder(home))


def shared_memory(home: Path, uid: str) -> list[Path]:
    folders = [ServerFolder(service(home, uid), number, home, home, home) for number in range(1, 9)]
    return [region for found in folders for region in found.regions()]


def processes_of(home: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            if os.fsencode(home / "services") in command or os.fsencode(home / "gateway") in command:
                found.append(int(path.parent.name))
    return found


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def program(pid: int) -> bytes:
    return command_line(pid).split(b"\0")[0]


def listening(process: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process listens by TCP."""
    files = set()
    for path in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            files.add(str(path.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in files:
                host, port = columns[1].split(":")
                address = ".".join(str(byte) for byte in reversed(bytes.fromhex(host))) if table == "tcp" else host
                found.add((address, int(port, 16)))
    return found


async def settled(triton: TritonLocal, uid: str) -> ObservedService:
    """Wait until the server has loaded the model, refused it or died; returns what is observed then."""
    deadline = monotonic() + 120
    while True:
        seen = await triton.observe(uid)
        assert seen is not None
        if seen.state is not ServiceState.STARTING:
            return seen
        assert monotonic() < deadline, seen
        await asyncio.sleep(0.1)


async def loaded(triton: TritonLocal, uid: str) -> ObservedService:
    """Wait until the model is loaded, for a server that was briefly unavailable."""
    deadline = monotonic() + 120
    while True:
        seen = await triton.observe(uid)
        if seen is not None and seen.state is ServiceState.LOADED:
            return seen
        assert monotonic() < deadline, seen
        await asyncio.sleep(0.1)


def copy_of_package(want: DesiredService, folder: Path) -> DesiredService:
    shutil.copytree(want.package_uri, folder)
    return DesiredService(**{**vars(want), "package_uri": str(folder), "digest": "copied"})


def altered(want: DesiredService, place: Path, fault: str) -> DesiredService:
    """A consistent package with a fault: it "does not load" or "answers wrong"."""
    contents = {"model.onnx": b"no graph"}
    if fault == "answers wrong":
        known = json.loads((Path(want.package_uri) / "probe.json").read_text())
        known["detections"][0]["box"][0] += 3
        contents = {"probe.json": json.dumps(known).encode()}
    manifest, onnx = model_packages.altered(Path(want.package_uri), place, contents)
    return replace(
        want, package_uri=str(place), onnx_sha256=onnx, manifest_sha256=manifest, digest=f"{want.digest} altered"
    )
