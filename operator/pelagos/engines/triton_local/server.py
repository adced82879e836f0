"""One Triton server process: its command, its sockets, its end. Called by triton_local; knows groups, not models.

The binary comes from the wheel of nvidia-pytriton in the environment ``triton``; no Python of that package is used. It is
an old release that executes what it is told to load, so it takes no orders: what it serves is in its folder when it starts. It
listens on Unix sockets in a folder of the owner, on no port.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from pelagos.engines.envoy.config import Upstream
from pelagos.engines.processes import groups, sockets
from pelagos.ports.errors import OutageError

if TYPE_CHECKING:
    from pelagos.engines.processes.groups import ProcessId

SYSTEM = "Triton"
GRACE_SECONDS = 5.0
_EXIT_SECONDS = 3
"""Triton waits this long for requests in progress; without it 30 s for one that hangs."""
_LOG_LIMIT = 8 * 1024 * 1024
_LOG_KEPT = 1024 * 1024
_LOG_SEARCHED = 64 * 1024
_ERROR = re.compile(r"\S+ [EF] \d+ [\w.]+:\d+\] (?!\"CudaDriverHelper)(.*)|(?i:(.*error while loading .*))")
"""Triton's error lines, but the one that every machine without a GPU gets; and the dynamic linker's about a missing library."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory


class ServerFolder:
    """The folder of one server of a service; need not exist yet. All methods block shortly, except ``stop``.

    ``service`` is the folder of the service, ``number`` the server's among those of the service, ``run`` where sockets are.
    """

    def __init__(self, service: Path, number: int, environment: Path, backends: Path, run: Path) -> None:
        self.path = service / str(number)
        self.log = self.path / "triton.log"
        self.served = self.path / "served"
        self._environment = environment
        self._backends = backends
        # Two installations on one machine may serve resources with the same uid.
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()
        self._shared_memory = f"pelagos-{digest[:16]}-"
        self._sockets = run / f"{digest[:12]}"

    @property
    def upstream(self) -> Upstream:
        """Its sockets. Triton puts a port behind the path of the one for gRPC, whether it means something or not."""
        return Upstream(
            str(self._sockets / "http"), f"{self._sockets / 'grpc'}:{_NO_PORT}", str(self._sockets / "metrics")
        )

    @property
    def connections(self) -> int:
        """How many are open from the gateway."""
        return sockets.connections(Path(self.upstream.http)) + sockets.connections(Path(self.upstream.grpc))

    def start(self) -> ProcessId:
        """Start a server for what is in ``served``. None may run; see ``stop``."""
        self._remove_sockets()
        self._sockets.mkdir(mode=0o700)
        # What is in the log is about this process; the one before may have told why it died.
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_name("triton.log.1"))
        variables = {
            # The Python backend takes its interpreter's packages from the first python3 in PATH, and ignores PYTHONPATH.
            "PATH": f"{self._environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONNOUSERSITE": "1",
            # What is served is compared with what was wanted before every start, file by file.
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "LANG": "C.UTF-8",
            "HOME": str(self.path),
            # Ceilings for images of requests: settings of ours.
            **{name: value for name, value in os.environ.items() if name.startswith("PELAGOS_MAX_")},
        }
        libraries = site_packages(self._environment) / "nvidia_pytriton.libs"
        return groups.start_private(self._command(), libraries, environment=variables, output=self.log)

    async def stop(self, process: ProcessId | None) -> None:
        """End the server, known or not, and all that it left in memory: at once when it has no requests in progress."""
        if process is not None and self.connections:
            await end(process)
        elif process is not None:
            await groups.kill_group(process, 0)
        for stray in groups.strays(self._repository_argument):
            await end(stray)
        for region in self.regions():
            region.unlink(missing_ok=True)
        self._remove_sockets()

    def regions(self) -> list[Path]:
        """What the server shares with its models; one that was killed leaves it behind."""
        return list(_SHARED_MEMORY.glob(f"{self._shared_memory}*"))

    def close_regions(self) -> None:
        """To others, where the kernel did not let us do that from the start."""
        for region in self.regions():
            with contextlib.suppress(OSError):
                if region.stat().st_mode & 0o077:
                    region.chmod(0o600)

    def bound_log(self) -> None:
        """See bound."""
        bound(self.log)

    def last_error(self) -> str:
        """The last error in the log of the present or latest process; empty when it told of none."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_SEARCHED))
            lines = file.read().decode(errors="replace").splitlines()
            matches = [match for line in lines if (match := _ERROR.match(line))]
            return (matches[-1][1] or matches[-1][2]).strip(' "')[:500] if matches else ""
        return ""

    def _command(self) -> list[str | Path]:
        site = site_packages(self._environment)
        binary = site / "pytriton/tritonserver/bin/tritonserver"
        if not binary.is_file():
            raise OutageError(SYSTEM, f"{binary} is not installed; run `make install`")
        return [
            binary,
            *(self._repository_argument, "--model-control-mode=none"),
            # A model that does not load must leave a server that can say why.
            *("--exit-on-error=false", "--strict-readiness=false", f"--exit-timeout-secs={_EXIT_SECONDS}"),
            *(f"--backend-directory={_backend_directory(site, self._backends)}", "--allow-gpu-metrics=false"),
            # Packages are complete and need no memory for transfers to a GPU.
            *("--disable-auto-complete-config", "--pinned-memory-pool-byte-size=0"),
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            f"--http-address=unix:{self._sockets / 'http'}",
            *(f"--grpc-address=unix:{self._sockets / 'grpc'}", f"--grpc-port={_NO_PORT}"),
            f"--metrics-address=unix:{self._sockets / 'metrics'}",
            *("--log-format=ISO8601", "--metrics-config=summary_latencies=true"),
        ]

    @property
    def _repository_argument(self) -> str:
        return f"--model-repository={self.served / 'repository'}"

    def _remove_sockets(self) -> None:
        shutil.rmtree(self._sockets, ignore_errors=True)


_NO_PORT = 1


def bound(log: Path, limit: int = _LOG_LIMIT) -> None:
    """Keep a log's end only when it has grown too big. Its writer appends, so it goes on at the new end."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > limit:
            with log.open("rb+") as file:
                file.seek(-_LOG_KEPT, os.SEEK_END)
                kept = file.read()
                file.seek(0)
                file.truncate()
                file.write(kept)


async def end(process: ProcessId) -> None:
    """Let the server end its model processes; a signal to all of them at once would make it wait for the dead."""
    if groups.is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    deadline = monotonic() + GRACE_SECONDS
    while groups.is_alive(process) and monotonic() < deadline:  # noqa: ASYNC110 - nobody else knows of its end
        await asyncio.sleep(0.05)
    await groups.kill_group(process, 0)


def site_packages(environment: Path) -> Path:
    """Where the packages of an environment are."""
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
