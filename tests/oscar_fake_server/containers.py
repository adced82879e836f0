"""The containers of exposed services, as processes of this machine. Called by the fake manager.

A container runs the service's own script with its own variables in a shell, as in OSCAR. Only what an image and its own network
would provide differs: the interpreter, the folder that it writes to, the address on which it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import Any

import aiohttp

from loopback import free_address
from model_packages import ENVIRONMENTS
from pelagos_pipelines.serving import entrypoint

PORTS = (8080, 9000, 8002)
FAILURES = 3
PAUSES = (0.2, 0.6, 2.0)
"""Seconds before an ended container is restarted; a kubelet waits 10 to 300."""


class Container:
    """A container that is restarted whenever it ends; ``log`` is that of the current or the last process."""

    def __init__(self, service: Mapping[str, Any], image: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.address = free_address(PORTS)
        # The path of a Unix socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="oscar-"))
        self.log = self.folder / "log"
        self.deaths = 0
        self.is_ready = False
        self._port, self._health = service["expose"]["api_port"][0], service["expose"]["health_path"]
        self._again_at = 0.0
        self._failures = 0
        self._is_ended = False
        self._service = service
        self._variables = variables(service, image, secrets, self.folder, self.address)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def keep(self, session: aiohttp.ClientSession) -> None:
        """Start it, restart it, and probe its readiness. After ``end`` it is not started again."""
        if self._is_ended:
            return
        if self._process is None:
            self._start()
        elif self._process.poll() is not None:
            if not self._again_at:
                self.is_ready, self.deaths = False, self.deaths + 1
                self._again_at = monotonic() + PAUSES[min(self.deaths, len(PAUSES)) - 1]
            elif monotonic() > self._again_at:
                self._again_at = 0.0
                self._start()
            return
        try:
            async with session.get(f"http://{self.address}:{self._port}{self._health}") as answer:
                is_well = answer.status < 400
        except (aiohttp.ClientError, OSError):
            is_well = False
        self._failures = 0 if is_well else self._failures + 1
        # As with kubelets: one late answer of three does not make it unready.
        self.is_ready = is_well or (self.is_ready and self._failures < FAILURES)

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    async def end(self) -> None:
        """End it as a pod ends: SIGTERM, a bounded wait, SIGKILL."""
        self._is_ended = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
        # A killed process leaves its shared memory behind.
        sockets, model = Path(self._variables.get("PELAGOS_SOCKETS", "")), self._variables.get("PELAGOS_MODEL_NAME", "")
        settings = entrypoint.Settings(model, self.folder, "", "", sockets, None)
        entrypoint.free_shared_memory(settings)
        rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        self._process = run(self._service, self._variables, self.folder, self.log)


def variables(
    service: Mapping[str, Any],
    image: Mapping[str, str],
    secrets: Mapping[str, str],
    folder: Path,
    address: str,
) -> dict[str, str]:
    """The environment variables of a container of the service."""
    told = dict(service["environment"]["variables"] or {}) | dict(secrets)
    # In a real container, files and network interface are its own, so these values hold for this process only.
    told = {
        name: value.replace("/tmp/pelagos", str(folder / "tmp")).replace('"0.0.0.0"', f'"{address}"')
        for name, value in told.items()
    }
    base = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "TMPDIR": str(folder),
        "PELAGOS_TRITON_HOME": str(ENVIRONMENTS / "triton"),
        "OSCAR_SERVICE_NAME": service["name"],
        "OSCAR_SERVICE_TOKEN": service["token"],
        "OSCAR_SERVICE_BASE_PATH": f"/system/services/{service['name']}/exposed",
    }
    return {**base, **image, **told}


def prepare(folder: Path) -> None:
    """Provide the programs that the serving image has in its path."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    python = folder / "bin/python3"
    if not python.exists():
        python.write_text(f'#!/bin/sh\nexec {ENVIRONMENTS / "pipelines/bin/python"} "$@"\n')
        python.chmod(0o755)


def run(service: Mapping[str, Any], environment: Mapping[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the service's script as OSCAR does."""
    prepare(folder)
    script = folder / "script.sh"
    script.write_text(service["script"])
    script.chmod(0o777)
    with log.open("wb") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", str(script)], env=dict(environment), stdout=output, stderr=output, start_new_session=True
        )
