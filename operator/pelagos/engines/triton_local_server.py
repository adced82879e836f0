"""One Triton server process: its command, its state file, its end. Called by triton_local; knows processes, not models.

The binary comes from the wheel of nvidia-pytriton in the environment ``triton``; no Python of that package is used. It is
an old release that dies of one hostile request to its repository API, so everything but inference and health asks for a
secret, and it listens on the loopback interface only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import signal
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from pelagos.engines import processes
from pelagos.engines.processes import ProcessId
from pelagos.ports.errors import OutageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = "Triton"
HOST = "127.0.0.1"
SECRET_HEADER = "pelagos-secret"  # noqa: S105 - the name of the header
GRACE_SECONDS = 5.0
_EXIT_SECONDS = 3
"""Triton waits this long for requests under way; without it 30 s for one that hangs."""
_RESTRICTED = "metadata,shared-memory,model-config,model-repository,statistics,trace,logging"
_PORTS = range(20000, 32768)
"""Below the range from which Linux takes ports for outgoing connections."""
_LOG_LIMIT = 8 * 1024 * 1024
_LOG_KEPT = 1024 * 1024
_LOG_SEARCHED = 64 * 1024
_ERROR = re.compile(r"\S+ [EF] \d+ [\w.]+:\d+\] (?!\"CudaDriverHelper)(.*)|(?i:(.*error while loading .*))")
"""Triton's error lines, but the one that every machine without a GPU gets; and the dynamic linker's about a missing library."""
_PROGRAMS = (b"tritonserver", b"triton_python_backend_stub")


@dataclass(frozen=True)
class Ports:
    """Where a server listens."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True)
class State:
    """What is remembered of a server. ``process`` is None from the intent to start one until it is started."""

    digest: str
    ports: Ports
    secret: str
    restarts: int
    started_at: datetime
    process: ProcessId | None

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.process is not None and processes.is_alive(self.process)


class ServerFolder:
    """The folder of one service; ``path`` need not exist yet. All methods block shortly, except ``stop``."""

    def __init__(self, path: Path, environment: Path, backends: Path) -> None:
        self.path = path
        self.log = path / "triton.log"
        self.served = path / "served"
        self._environment = environment
        self._backends = backends
        self._state = path / "state.json"
        # Two installations on one machine may serve resources with the same uid.
        self._shared_memory = f"pelagos-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}-"

    def read_state(self) -> State | None:
        """What is remembered; None when nothing is."""
        try:
            content = json.loads(self._state.read_text(encoding="utf-8"))
            process = content["process"]
            return State(
                digest=content["digest"],
                ports=Ports(**content["ports"]),
                secret=content["secret"],
                restarts=content["restarts"],
                started_at=datetime.fromisoformat(content["startedAt"]),
                process=ProcessId(**process) if process else None,
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget_state(self) -> None:
        """Remember nothing."""
        self._state.unlink(missing_ok=True)

    def start(self, model: str, digest: str, restarts: int, taken: set[int]) -> None:
        """Start a server for the model in ``served``. None may run; see ``stop``.

        The intent is written first: whoever finds it without a process looks for the process by its command.
        """
        before = self.read_state()
        ports = before.ports if before and _are_free(before.ports) else _free_ports(taken)
        state = State(digest, ports, secrets.token_hex(16), restarts, datetime.now(UTC), None)
        self._write_state(state)
        # What is in the log is about this process; the one before may have told why it died.
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_name("triton.log.1"))
        command = self._command(model, state)
        process = processes.start_detached(command, environment=self._variables(), output=self.log)
        self._write_state(replace(state, process=process))

    async def stop(self) -> None:
        """End the server, with or without state, and all that it left in memory."""
        state = self.read_state()
        if state is not None and state.process is not None:
            await _end(state.process)
        for stray in self._strays():
            await _end(stray)
        self._free_shared_memory()

    def bound_log(self, limit: int = _LOG_LIMIT) -> None:
        """Keep the log's end only when it has grown too big. The server appends, so it goes on writing at the new end."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > limit:
                with self.log.open("rb+") as file:
                    file.seek(-_LOG_KEPT, os.SEEK_END)
                    kept = file.read()
                    file.seek(0)
                    file.truncate()
                    file.write(kept)

    def last_error(self) -> str:
        """The last error in the log of the present or latest process; empty when it told of none."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_SEARCHED))
            lines = file.read().decode(errors="replace").splitlines()
            matches = [match for line in lines if (match := _ERROR.match(line))]
            return (matches[-1][1] or matches[-1][2]).strip(' "')[:500] if matches else ""
        return ""

    def _command(self, model: str, state: State) -> list[str | Path]:
        site = _site_packages(self._environment)
        binary = site / "pytriton/tritonserver/bin/tritonserver"
        if not binary.is_file():
            raise OutageError(SYSTEM, f"{binary} is not installed; run `make install`")
        ports, header = state.ports, f"{SECRET_HEADER}={state.secret}"
        return [
            binary,
            *(self._repository_argument, f"--load-model={model}", "--model-control-mode=explicit"),
            # A model that does not load must leave a server that can say why.
            *("--exit-on-error=false", "--strict-readiness=false", f"--exit-timeout-secs={_EXIT_SECONDS}"),
            *(f"--backend-directory={_backend_directory(site, self._backends)}", "--allow-gpu-metrics=false"),
            # Packages are complete and need no memory for transfers to a GPU.
            *("--disable-auto-complete-config", "--pinned-memory-pool-byte-size=0"),
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            *(f"--http-address={HOST}", f"--http-port={ports.http}"),
            *(f"--grpc-address={HOST}", f"--grpc-port={ports.grpc}"),
            *(f"--metrics-address={HOST}", f"--metrics-port={ports.metrics}"),
            f"--http-restricted-api={_RESTRICTED}:{header}",
            f"--grpc-restricted-protocol={_RESTRICTED}:{header}",
            *("--log-format=ISO8601", "--metrics-config=summary_latencies=true"),
        ]

    @property
    def _repository_argument(self) -> str:
        return f"--model-repository={self.served / 'repository'}"

    def _variables(self) -> dict[str, str]:
        site = _site_packages(self._environment)
        return {
            # The Python backend takes its interpreter's packages from the first python3 in PATH, and ignores PYTHONPATH.
            "PATH": f"{self._environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
            "PYTHONNOUSERSITE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "LANG": "C.UTF-8",
            "HOME": str(self.path),
        }

    def _write_state(self, state: State) -> None:
        process = state.process
        content = {
            "digest": state.digest,
            "ports": {"http": state.ports.http, "grpc": state.ports.grpc, "metrics": state.ports.metrics},
            "secret": state.secret,
            "restarts": state.restarts,
            "startedAt": state.started_at.isoformat(),
            "process": {"pid": process.pid, "started": process.started} if process else None,
        }
        partial = self._state.with_name("state.json.partial")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._state)

    def _free_shared_memory(self) -> None:
        """A server that was killed leaves its regions behind."""
        for region in Path("/dev/shm").glob(f"{self._shared_memory}*"):  # noqa: S108 - where Linux keeps shared memory
            region.unlink(missing_ok=True)

    def _strays(self) -> Iterator[ProcessId]:
        """Processes of this service that no state tells of: we died between starting one and writing it down."""
        repository = os.fsencode(self.served / "repository")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes()
                if arguments.split(b"\0")[0].endswith(_PROGRAMS) and repository in arguments:
                    process = processes.identify(int(entry.name))
                    if process is not None:
                        yield process


async def _end(process: ProcessId) -> None:
    """Let the server end its model processes; a signal to all of them at once would make it wait for the dead."""
    if processes.is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    deadline = monotonic() + GRACE_SECONDS
    while processes.is_alive(process) and monotonic() < deadline:  # noqa: ASYNC110 - nobody else knows of its end
        await asyncio.sleep(0.05)
    await processes.kill_group(process, 0)


def taken_ports(services: Path) -> set[int]:
    """Ports that services of this installation have or had and may ask for again."""
    ports: set[int] = set()
    for path in services.glob("*/state.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
            ports.update(json.loads(path.read_text(encoding="utf-8"))["ports"].values())
    return ports


def _free_ports(taken: set[int]) -> Ports:
    candidates = random.sample(_PORTS, len(_PORTS))
    free = (port for port in candidates if port not in taken and _is_free(port))
    try:
        return Ports(http=next(free), grpc=next(free), metrics=next(free))
    except StopIteration:
        raise OutageError(SYSTEM, f"no free port from {_PORTS.start} to {_PORTS.stop - 1}") from None


def _are_free(ports: Ports) -> bool:
    return all(_is_free(port) for port in (ports.http, ports.grpc, ports.metrics))


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def _site_packages(environment: Path) -> Path:
    found = sorted(environment.glob("lib/python3.*/site-packages"))
    return found[-1] if found else environment / "lib/python3/site-packages"


def _backend_directory(site: Path, backends: Path) -> Path:
    """A folder with the Python backend, its helpers and the stub: the wheel keeps them apart, Triton wants them together."""
    wheel = site / "pytriton/tritonserver"
    version = site.parent.name.removeprefix("python")
    directory = backends / hashlib.sha256(str(site).encode()).hexdigest()[:16]
    python = directory / "python"
    python.mkdir(parents=True, exist_ok=True)
    for target in (
        wheel / "backends/python/libtriton_python.so",
        wheel / "backends/python/triton_python_backend_utils.py",
        wheel / "python_backend_stubs" / version / "triton_python_backend_stub",
    ):
        with contextlib.suppress(FileExistsError):
            (python / target.name).symlink_to(target)
    return directory
