"""A whole model server in one container: package, Triton and Envoy are real, and start and end together."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import build_packages
from loopback import free_address
from pelagos.engines.triton import config as triton_config
from pelagos_contract import lone_servers
from pelagos_pipelines.serving import entrypoint
from serving.conftest import TRITON, configured
from serving.test_entrypoint import PORTS, digest, gateway_config, settings_of

KEYS = {
    "AWS_ACCESS_KEY_ID": "very-secret-id",
    "AWS_SECRET_ACCESS_KEY": "very-secret-key",
    "OSCAR_SERVICE_TOKEN": "very-secret-token",
    "PELAGOS_STORAGE_CA": "very-secret-authority",
}


@dataclass(frozen=True)
class Container:
    """A container, represented by its first process, which leads its own session."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def pids(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[3] == str(self.process.pid) and fields[0] != "Z":
                    found.append(int(entry.name))
        return found

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.address}:8080/v2/health/ready"):
                return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build_packages.build("Detection", build_packages.detector(), tmp_path_factory.mktemp("store"))[0])


@pytest.fixture
def container(package: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Container]:
    """A container that fetches the package, with keys as a platform passes them. ``request.param`` changes its environment."""
    sockets, address = Path(tempfile.mkdtemp(prefix="pod-")), free_address(PORTS)
    variables = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "PELAGOS_TRITON_HOME": str(TRITON),
        "PELAGOS_SOCKETS": str(sockets / "run"),
        "PELAGOS_MODEL_NAME": "detector",
        "PELAGOS_PACKAGE": str(tmp_path / "models"),
        "PELAGOS_PACKAGE_URI": str(package),
        "PELAGOS_MANIFEST_SHA256": digest(package),
        "PELAGOS_TRITON_CONFIG": triton_config.render(configured(package, "detector")),
        "PELAGOS_GATEWAY_CONFIG": gateway_config(sockets / "run", address),
        **KEYS,
        **getattr(request, "param", {}),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "pelagos_pipelines.serving.alone"]
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output, start_new_session=True)
    made = Container(process, address, log)
    yield made
    for pid in made.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    entrypoint.free_shared_memory(settings_of(sockets / "run"))
    shutil.rmtree(sockets)


def test_it_serves_keeps_no_key_and_ends_in_order(container: Container) -> None:
    container.wait_until_ready()

    environments = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in container.pids())
    commands = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in container.pids())
    assert b"tritonserver" in commands
    assert b"envoy" in commands
    assert b"very-secret" not in environments + commands
    with urllib.request.urlopen(f"http://{container.address}:8080/v2/models/detector/config") as answer:
        assert json.load(answer)["name"] == "detector"

    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(60) == 0
    assert container.pids() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((container.address, 8080), timeout=5)


@pytest.mark.parametrize("part", [b"tritonserver", b"_bin/envoy"])
def test_when_a_part_of_it_dies_all_ends_with_its_code(container: Container, part: bytes) -> None:
    container.wait_until_ready()
    (pid,) = [pid for pid in container.pids() if part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]
    os.kill(pid, signal.SIGKILL)
    assert container.process.wait(60) == 128 + signal.SIGKILL
    # Triton's Python stubs outlive it for a moment and may write after the last words.
    lines = container.log.read_text(errors="replace").splitlines()
    assert [told for line in lines if (told := lone_servers.read(line))] == [(lone_servers.ENDED, 128 + signal.SIGKILL)]
    deadline = time.monotonic() + 60
    while container.pids() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert container.pids() == []


@pytest.mark.parametrize("container", [{"PELAGOS_MANIFEST_SHA256": "0" * 64}], indirect=True)
def test_another_package_than_the_one_that_is_asked_for_is_not_served(container: Container) -> None:
    assert container.process.wait(60) == os.EX_DATAERR
    first, line, last = container.log.read_text().splitlines()
    assert first.startswith("pelagos: brings the model package /")
    assert line.startswith("pelagos: ")
    assert lone_servers.read(last) == (lone_servers.NOT_FETCHED, os.EX_DATAERR)
    assert "has been altered, or belongs to another package" in line
