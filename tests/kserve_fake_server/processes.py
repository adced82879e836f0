"""The containers of pods as processes of this machine. Called by nodes.

A container's command, arguments and environment are used exactly as in the pod; only places are replaced: the interpreter, the
folders behind volumes, the address to listen on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from loopback import free_address
from pelagos.engines.model_server import gateway as model_server_gateway
from pelagos.engines.model_server import pod_template
from pelagos_pipelines.serving import entrypoint, packages

PORTS = (8080, 9000, 8002)
GATEWAY, SOCKETS, CONFIG = model_server_gateway.NAME, pod_template.SOCKETS, model_server_gateway.CONFIG
_LOG_KEPT = 2048
_LINES_KEPT = 80
_LONGEST_PAUSE = 4.0
_SHOWN = 0.5
"""Seconds for which an ended container is shown as terminated before the back-off begins."""


@dataclass(frozen=True)
class Containers:
    """Starts the containers of pods."""

    claims: Mapping[str, Path]
    environments: Path
    folder: Path

    def start(self, pod: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> Running:
        """Start the pod's processes, init containers first."""
        spec, name = pod["spec"], pod["metadata"]["name"]
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        address = free_address(PORTS)
        steps = [
            Step(each, self._command(each), self._environment(each, spec, home, address, secrets), is_init)
            for is_init, kind in ((True, "initContainers"), (False, "containers"))
            for each in spec.get(kind) or ()
        ]
        beside = [step for step in steps if step.container["name"] == GATEWAY]
        return Running(
            name,
            address,
            home / "log",
            [step for step in steps if step not in beside],
            [Beside(step) for step in beside],
        )

    def _command(self, container: Mapping[str, Any]) -> list[str]:
        command = [*(container.get("command") or ()), *(container.get("args") or ())]
        return [sys.executable if part == "python3" else part for part in command]

    def _environment(
        self,
        container: Mapping[str, Any],
        spec: Mapping[str, Any],
        home: Path,
        address: str,
        secrets: Mapping[str, Mapping[str, str]],
    ) -> dict[str, str]:
        values: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            values |= secrets[source["secretRef"]["name"]]
        for each in container.get("env") or ():
            key = each.get("valueFrom", {}).get("secretKeyRef")
            values[each["name"]] = secrets[key["name"]][key["key"]] if key else each.get("value", "")
        places = {each["mountPath"]: self._place(each, spec, home) for each in container.get("volumeMounts") or ()}
        values = {name: str(places.get(value, value)) for name, value in values.items()}
        if CONFIG in values:
            # Pods share this machine's network interface and file system.
            folder, everywhere = str(places[SOCKETS]), json.dumps("0.0.0.0")
            values[CONFIG] = values[CONFIG].replace(SOCKETS, folder).replace(everywhere, json.dumps(address))
        return {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(places.get("/tmp", home)),
            **values,
            "PELAGOS_TRITON_HOME": str(self.environments / "triton"),
        }

    def _place(self, mount: Mapping[str, Any], spec: Mapping[str, Any], home: Path) -> Path:
        volume = next(each for each in spec["volumes"] if each["name"] == mount["name"])
        if "persistentVolumeClaim" in volume:
            return self.claims[volume["persistentVolumeClaim"]["claimName"]] / str(mount.get("subPath", ""))
        # The path of a Unix socket must be short.
        place = home / str(volume["name"]) if mount["mountPath"] != SOCKETS else short_folder(home)
        place.mkdir(exist_ok=True)
        return place


@dataclass(frozen=True)
class Step:
    """One container."""

    container: Mapping[str, Any]
    command: list[str]
    environment: dict[str, str]
    is_init: bool


def short_folder(home: Path) -> Path:
    """A short path for the sockets of a pod; see Running.end."""
    return Path(tempfile.gettempdir()) / f"pod-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"


@dataclass
class Beside:
    """A container that runs beside the server."""

    step: Step
    process: subprocess.Popen[bytes] | None = None
    restarts: int = -1
    started_at: str = ""

    def keep(self, log: Path) -> None:
        """Start it if it does not run."""
        if self.process is None or self.process.poll() is not None:
            self.restarts += 1
            self.started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            with log.open("ab") as output:
                self.process = subprocess.Popen(
                    self.step.command, env=self.step.environment, stdout=output, stderr=output, start_new_session=True
                )

    def end(self) -> None:
        """Kill it, as the kernel would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def status(self) -> dict[str, Any]:
        """The status of the container."""
        container = self.step.container
        made = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": self.restarts}
        return made | {"ready": True, "state": {"running": {"startedAt": self.started_at}}}


@dataclass
class Running:
    """A pod on this machine."""

    name: str
    address: str
    log: Path
    steps: list[Step]
    beside: list[Beside]
    current: int = 0
    restarts: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    last: dict[str, Any] | None = None
    ended_at: float = 0.0
    started_at: str = ""

    def __post_init__(self) -> None:
        self.restarts = [0 for _ in self.steps]
        self._begin()

    @property
    def is_alive(self) -> bool:
        """Whether its server's process is running."""
        return self._is_serving and self.process is not None and self.process.poll() is None

    @property
    def _is_serving(self) -> bool:
        return not self.steps[self.current].is_init

    def kill(self) -> None:
        """Kill the server, as the kernel would."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End it as a kubelet does: SIGTERM, grace period, SIGKILL."""
        # The server waits for open connections to end, even the gateway's idle ones.
        for each in self.beside:
            await asyncio.to_thread(each.end)
        try:
            await self._end_server()
        finally:
            shutil.rmtree(short_folder(self.log.parent), ignore_errors=True)

    async def _end_server(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        for _ in range(100):
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.05)
        # A container's other processes end with its first one, even if that ended by itself.
        self.kill_group()
        await asyncio.to_thread(self.process.wait)
        # On a node, shared memory ends with the pod; here it is the machine's and must be removed.
        with contextlib.suppress(packages.RefusedError):
            entrypoint.free_shared_memory(entrypoint.read(self.steps[-1].environment))

    def step(self) -> None:
        """Notice processes that ended; start those that come next."""
        if self._is_serving:
            for each in self.beside:
                each.keep(self.log.with_name(f"log-{each.step.container['name']}"))
        if self.process is None:
            pause = min(_LONGEST_PAUSE, 2.0 ** (self.restarts[self.current] - 1))
            if monotonic() - self.ended_at > _SHOWN + pause:
                self.restarts[self.current] += 1
                self._begin()
            return
        code = self.process.poll()
        if code is None:
            return
        if self.steps[self.current].is_init and code == 0:
            self.current += 1
            self.last = None
            self._begin()
            return
        # Processes that a killed server leaves behind must not continue to use its memory.
        self.kill_group()
        self.process, self.ended_at = None, monotonic()
        self.last = {
            "exitCode": code if code >= 0 else 128 - code,
            "reason": "Completed" if code == 0 else "Error",
            "message": self._tail() if code else "",
        }

    def kill_group(self) -> None:
        """Kill the remaining processes: in a container they end with its first one."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def status(self, *, ready: bool) -> dict[str, Any]:
        """The status of the pod."""
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": "True" if self._is_serving else "False"},
            {"type": "Ready", "status": "True" if ready else "False"},
        ]
        states = [self._container(index, ready=ready) for index in range(len(self.steps))]
        return {
            "phase": "Running" if self._is_serving else "Pending",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": conditions,
            "initContainerStatuses": [state for state, step in zip(states, self.steps, strict=True) if step.is_init],
            "containerStatuses": [
                *(state for state, step in zip(states, self.steps, strict=True) if not step.is_init),
                *(each.status() for each in self.beside if self._is_serving and each.process is not None),
            ],
        }

    def _container(self, index: int, *, ready: bool) -> dict[str, Any]:
        container = self.steps[index].container
        made = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "restartCount": self.restarts[index],
        }
        if index < self.current:
            return made | {"ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
        if index > self.current:
            return made | {"ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
        last = {"lastState": {"terminated": self.last}} if self.last else {}
        if self.process is not None:
            return made | {"ready": ready, "state": {"running": {"startedAt": self.started_at}}} | last
        if monotonic() - self.ended_at < _SHOWN:
            return made | {"ready": False, "state": {"terminated": self.last}}
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
        return made | {"ready": False, "state": {"waiting": waiting}} | last

    def _begin(self) -> None:
        step = self.steps[self.current]
        self.started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                step.command, env=step.environment, stdout=output, stderr=output, start_new_session=True
            )

    def _tail(self) -> str:
        """As much of the log as a kubelet keeps with FallbackToLogsOnError."""
        lines = self.log.read_bytes().splitlines(keepends=True)[-_LINES_KEPT:]
        return b"".join(lines)[-_LOG_KEPT:].decode(errors="replace")
