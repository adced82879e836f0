"""One Triton server process: its command, its sockets, how it ends. Called by triton_local; knows process groups, not models.

The binary is from the nvidia-pytriton wheel in the environment ``triton``; none of that package's Python is used. It is an old
release that would execute anything it is asked to load, so it accepts no load requests: the model is in its folder when it
starts. It listens on Unix sockets in a private folder, and on no port.
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
"""How long Triton waits for requests in progress when it ends; the default is 30 s, even for one that hangs."""
_LOG_LIMIT = 8 * 1024 * 1024
_LOG_KEPT = 1024 * 1024
_LOG_SEARCHED = 64 * 1024
_ERROR = re.compile(r"\S+ [EF] \d+ [\w.]+:\d+\] (?!\"CudaDriverHelper)(.*)|(?i:(.*error while loading .*))")
"""Triton's error lines, except the one on every machine without a GPU; and the dynamic linker's about a missing library."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory


class ServerFolder:
    """The folder of one server of a service, which need not exist yet. All methods block briefly, except ``stop``.

    ``service`` is the service's folder, ``number`` that of the server within it, ``run`` the folder for sockets.
    """

    def __init__(self, service: Path, number: int, environment: Path, backends: Path, run: Path) -> None:
        self.path = service / str(number)
        self.log = self.path / "triton.log"
        self.served = self.path / "served"
        self._environment = environment
        self._backends = backends
        # The whole path, not only the uid: two installations on one machine may serve resources with the same uid.
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()
        self._shared_memory = f"pelagos-{digest[:16]}-"
        self._sockets = run / f"{digest[:12]}"

    @property
    def upstream(self) -> Upstream:
        """The server's sockets. Triton always appends a port to the path of its gRPC socket, even though it means nothing."""
        return Upstream(
            str(self._sockets / "http"), f"{self._sockets / 'grpc'}:{_NO_PORT}", str(self._sockets / "metrics")
        )

    @property
    def connections(self) -> int:
        """The number of open connections from the gateway."""
        return sockets.connections(Path(self.upstream.http)) + sockets.connections(Path(self.upstream.grpc))

    def start(self) -> ProcessId:
        """Start a server for the model in ``served``. No other may be running for this folder; see ``stop``."""
        self._remove_sockets()
        self._sockets.mkdir(mode=0o700)
        # The log is for this process only; keep the previous one, which may say why that process died.
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_name("triton.log.1"))
        variables = {
            # The Python backend takes its interpreter's packages from the first python3 in PATH, and ignores PYTHONPATH.
            "PATH": f"{self._environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONNOUSERSITE": "1",
            # Keep .pyc files out of the repository, which is verified file by file before every start.
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "LANG": "C.UTF-8",
            "HOME": str(self.path),
            # Our settings for the limits on images in requests.
            **{name: value for name, value in os.environ.items() if name.startswith("PELAGOS_MAX_")},
        }
        libraries = site_packages(self._environment) / "nvidia_pytriton.libs"
        return groups.start_private(self._command(), libraries, environment=variables, output=self.log)

    async def stop(self, process: ProcessId | None) -> None:
        """End the server, whether or not its process is known, and free its shared memory. At once if it has no connections."""
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
        """The server's shared memory files, which a killed server leaves behind."""
        return list(_SHARED_MEMORY.glob(f"{self._shared_memory}*"))

    def close_regions(self) -> None:
        """Make the shared memory files private, where the kernel did not allow that from the start (private_start)."""
        for region in self.regions():
            with contextlib.suppress(OSError):
                if region.stat().st_mode & 0o077:
                    region.chmod(0o600)

    def bound_log(self) -> None:
        """Keep the log below its size limit; see `bound`."""
        bound(self.log)

    def last_error(self) -> str:
        """The last error in the log of the present or latest process; "" when there is none."""
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
            # If the model does not load, the server must stay up so that it can say why.
            *("--exit-on-error=false", "--strict-readiness=false", f"--exit-timeout-secs={_EXIT_SECONDS}"),
            *(f"--backend-directory={_backend_directory(site, self._backends)}", "--allow-gpu-metrics=false"),
            # Packages have a complete configuration, and no GPU transfers need pinned memory.
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
    """Cut a log that has grown beyond ``limit`` bytes to its last part. Its writer appends, so it continues at the new end."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > limit:
            with log.open("rb+") as file:
                file.seek(-_LOG_KEPT, os.SEEK_END)
                kept = file.read()
                file.seek(0)
                file.truncate()
                file.write(kept)


async def end(process: ProcessId) -> None:
    """End a server, first by SIGTERM to it alone: if its model processes got the signal too, it would wait for dead ones."""
    if groups.is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    deadline = monotonic() + GRACE_SECONDS
    while groups.is_alive(process) and monotonic() < deadline:  # noqa: ASYNC110 - nothing else reports its end
        await asyncio.sleep(0.05)
    await groups.kill_group(process, 0)


def site_packages(environment: Path) -> Path:
    """The site-packages folder of an environment."""
    found = sorted(environment.glob("lib/python3.*/site-packages"))
    return found[-1] if found else environment / "lib/python3/site-packages"


def _backend_directory(site: Path, backends: Path) -> Path:
    """A folder with the Python backend, its helpers and the stub, which Triton expects together but the wheel keeps apart."""
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
