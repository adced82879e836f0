"""Becomes the inference server of one model package: ``python -m pelagos_pipelines.serving.entrypoint`` in the serving image.

Copies the package to a temporary folder while comparing every sha256, so that the served files are the verified ones. Then it
puts our own code beside them, writes the server's configuration, which the control plane has rendered, and replaces itself by
``tritonserver``. Its variables are in docs/design/0004-cluster-mode.md. If the package must be corrected, it ends with EX_DATAERR
and one line that says why. Imports the standard library only: it must start at once, in an image without the rest of the data
plane.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from pelagos_contract import disk
from pelagos_contract.text import shown
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import packages
from pelagos_pipelines.serving.packages import RefusedError

SOCKETS = "/run/pelagos"
"""The only place where the server listens: a folder of the pod that the gateway's container shares."""
_NO_PORT = 1
"""A port without meaning: the server always appends one to the path of the gRPC socket."""
PACKAGE = "/mnt/models"
EXIT_SECONDS = 30
TERMINATION_LOG = Path("/dev/termination-log")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory


@dataclass(frozen=True)
class Settings:
    """See docs/design/0004-cluster-mode.md. The server listens in ``sockets``; ``home`` is an environment with its wheel."""

    model_name: str
    package: Path
    config: str
    manifest_sha256: str
    sockets: Path
    home: Path | None


def main() -> NoReturn:
    """Verify the package, write the repository, become the server. On failure, ends the process with a message."""
    try:
        settings = read(os.environ)
        folder = Path(tempfile.mkdtemp(prefix="pelagos-"))
        with disk.written(folder):
            repository = build(settings, folder)
            command, variables = launch(settings, folder, repository)
    except RefusedError as error:
        fail(str(error), os.EX_DATAERR)
    except OSError as error:
        fail(failure(error), os.EX_IOERR)
    # Everything is ready. The server must find its names free, and its files must be readable by this user alone.
    free_shared_memory(settings)
    free_sockets(settings)
    os.umask(0o077)
    os.execve(command[0], command, variables)  # noqa: S606 - arguments are a list


def read(variables: Mapping[str, str]) -> Settings:
    """Settings from the environment. Raises RefusedError for a missing one."""
    for name in ("PELAGOS_MODEL_NAME", "PELAGOS_TRITON_CONFIG", "PELAGOS_MANIFEST_SHA256"):
        if not variables.get(name):
            raise RefusedError(f"{name} is not set; the operator sets it, see docs/design/0004-cluster-mode.md")
    name, home = variables["PELAGOS_MODEL_NAME"], variables.get("PELAGOS_TRITON_HOME")
    if PurePosixPath(name).name != name or name in (".", ".."):
        raise RefusedError(f"PELAGOS_MODEL_NAME={name!r} cannot be the name of a folder")
    try:
        Ceilings.read(variables)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return Settings(
        model_name=name,
        package=Path(variables.get("PELAGOS_PACKAGE") or PACKAGE),
        config=variables["PELAGOS_TRITON_CONFIG"],
        manifest_sha256=variables["PELAGOS_MANIFEST_SHA256"],
        sockets=sockets(variables),
        home=Path(home) if home else None,
    )


def sockets(variables: Mapping[str, str]) -> Path:
    """The folder of the pod's Unix sockets."""
    return Path(variables.get("PELAGOS_SOCKETS") or SOCKETS)


def build(settings: Settings, folder: Path) -> Path:
    """Write the server's repository with the verified model in ``folder``. Raises RefusedError for a missing or altered file."""
    model = folder / "repository" / settings.model_name
    version = model / "1"
    version.mkdir(parents=True)
    # Copied while comparing, because others may write to the volume, but not to this folder of the container.
    packages.verify(settings.package, settings.manifest_sha256, version, kept=[packages.GRAPH])
    packages.install_code(version)
    (model / "config.pbtxt").write_text(settings.config, encoding="utf-8")
    return model.parent


def launch(settings: Settings, folder: Path, repository: Path) -> tuple[list[str], dict[str, str]]:
    """The server's command and environment. Raises RefusedError when the server is not installed."""
    command = [
        f"--model-repository={repository}",
        # Nothing can be loaded or unloaded later, and a server that cannot load its model ends and says why.
        *("--model-control-mode=none", "--exit-on-error=true", f"--exit-timeout-secs={EXIT_SECONDS}"),
        "--disable-auto-complete-config",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(settings)}",
        f"--http-address=unix:{settings.sockets / 'http'}",
        *(f"--grpc-address=unix:{settings.sockets / 'grpc'}", f"--grpc-port={_NO_PORT}"),
        f"--metrics-address=unix:{settings.sockets / 'metrics'}",
        # Kubernetes keeps 2 kB of an ended container's log, in which tables of settings must not hide why a model did not load.
        *("--log-format=ISO8601", "--log-info=false", "--metrics-config=summary_latencies=true"),
    ]
    # The server decodes untrusted input, so it gets no credentials. The ceilings are for the code that it loads.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PELAGOS_", "AWS_"))}
    kept |= Ceilings.read(os.environ).variables()
    variables = kept | {"PYTHONNOUSERSITE": "1", "ORT_DISABLE_TELEMETRY": "1", "HOME": str(folder)}
    if settings.home is not None:
        binary, more = _from_wheel(settings.home, folder)
        path = f"{settings.home / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        site = binary.parents[3]
        return [str(binary), *command, *more], variables | {
            # The Python backend takes its packages from the first python3 in PATH.
            "PATH": path,
            "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
        }
    found = shutil.which("tritonserver")
    if found is None:
        raise RefusedError(
            "tritonserver is not in PATH, and PELAGOS_TRITON_HOME is not set: this is not a serving image"
        )
    return [found, *command], variables


def _from_wheel(home: Path, folder: Path) -> tuple[Path, list[str]]:
    """The server from nvidia-pytriton's wheel. Its Python backend is spread over folders, but Triton needs it in one: link it."""
    sites = sorted(home.glob("lib/python3.*/site-packages"))
    wheel = sites[-1] / "pytriton/tritonserver" if sites else home / "pytriton/tritonserver"
    binary = wheel / "bin/tritonserver"
    if not binary.is_file():
        raise RefusedError(f"PELAGOS_TRITON_HOME={home} holds no {binary.relative_to(home)}")
    python = folder / "backends" / "python"
    python.mkdir(parents=True)
    version = sites[-1].parent.name.removeprefix("python")
    for target in (
        wheel / "backends/python/libtriton_python.so",
        wheel / "backends/python/triton_python_backend_utils.py",
        wheel / "python_backend_stubs" / version / "triton_python_backend_stub",
    ):
        (python / target.name).symlink_to(target)
    more = [f"--backend-directory={python.parent}", "--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return binary, more


def shared_memory_prefix(settings: Settings) -> str:
    """The prefix of this server's shared memory regions, which is the same for an earlier server in this pod."""
    name = f"{socket.gethostname()}/{settings.sockets}/{settings.model_name}"
    return f"pelagos-{hashlib.sha256(name.encode()).hexdigest()[:16]}-"


def free_shared_memory(settings: Settings) -> None:
    """Remove the regions of a killed server, which outlive its container."""
    for region in SHARED_MEMORY.glob(f"{shared_memory_prefix(settings)}*"):
        region.unlink(missing_ok=True)


def free_sockets(settings: Settings) -> None:
    """Remove the sockets of a killed server, which would prevent the next one from listening."""
    for name in ("http", f"grpc:{_NO_PORT}", "metrics"):
        (settings.sockets / name).unlink(missing_ok=True)


def failure(error: OSError) -> str:
    """The message for a failed file operation, in one line."""
    if error.errno in disk.FULL:
        return disk.explain(error, Path(tempfile.gettempdir()))
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)


def fail(message: str, code: int) -> NoReturn:
    """End the process with one line in the log and in Kubernetes' termination log."""
    line = shown(" ".join(message.split()))
    print(f"pelagos: {line}", file=sys.stderr)  # noqa: T201 - the container's log
    with contextlib.suppress(OSError):
        TERMINATION_LOG.write_text(line, encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
