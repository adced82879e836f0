"""Becomes the inference server of one model package: ``python -m pelagos_pipelines.serving.entrypoint`` in the serving image.

Copies the package to a temporary folder while it compares every sha256, so that what is served is what was verified; writes
the server's configuration, which the control plane has rendered; and replaces itself by ``tritonserver``. The variables are
listed in docs/design/0004-cluster-mode.md. Ends with EX_DATAERR when the package must be corrected, and one line that says why.
Imports the standard library only: it must start at once, in an image without the rest of the data plane.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

GRAPH = "triton/1/model.onnx"
_REQUIRED = (GRAPH, "triton/1/model.py", "triton/config.json")
_RESTRICTED = "shared-memory,model-repository,statistics,trace,logging"
"""Closed to all: nobody knows the secret. Open are inference, health, metadata, and the configuration, which names the digest."""
_SECRET_HEADER = "pelagos-secret"  # noqa: S105 - the name of the header
PACKAGE = "/mnt/models"
EXIT_SECONDS = 30
TERMINATION_LOG = Path("/dev/termination-log")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory


class RefusedError(Exception):
    """The package or a setting must be corrected; trying again does not help."""


@dataclass(frozen=True)
class Settings:
    """See docs/design/0004-cluster-mode.md. ``address`` is where the server listens; ``home`` an environment with its wheel."""

    model_name: str
    package: Path
    config: str
    onnx_sha256: str
    address: str
    home: Path | None


def main() -> NoReturn:
    """Verify, write, become the server. Ends the process with a message when that cannot be."""
    try:
        settings = read(os.environ)
        folder = Path(tempfile.mkdtemp(prefix="pelagos-"))
        repository = build(settings, folder)
        command, variables = launch(settings, folder, repository)
    except RefusedError as error:
        fail(str(error), os.EX_DATAERR)
    except OSError as error:
        fail(f"{error.strerror}: {error.filename}" if error.filename else str(error), os.EX_IOERR)
    free_shared_memory(settings)
    os.execve(command[0], command, variables)  # noqa: S606 - arguments are a list


def read(variables: Mapping[str, str]) -> Settings:
    """Settings from the environment. Raises RefusedError for a missing one."""
    for name in ("PELAGOS_MODEL_NAME", "PELAGOS_TRITON_CONFIG", "PELAGOS_ONNX_SHA256"):
        if not variables.get(name):
            raise RefusedError(f"{name} is not set; the operator sets it, see docs/design/0004-cluster-mode.md")
    name, home = variables["PELAGOS_MODEL_NAME"], variables.get("PELAGOS_TRITON_HOME")
    if PurePosixPath(name).name != name or name in (".", ".."):
        raise RefusedError(f"PELAGOS_MODEL_NAME={name!r} cannot be the name of a folder")
    return Settings(
        model_name=name,
        package=Path(variables.get("PELAGOS_PACKAGE") or PACKAGE),
        config=variables["PELAGOS_TRITON_CONFIG"],
        onnx_sha256=variables["PELAGOS_ONNX_SHA256"],
        address=variables.get("PELAGOS_LISTEN_ADDRESS") or "0.0.0.0",  # noqa: S104 - a pod's own network
        home=Path(home) if home else None,
    )


def build(settings: Settings, folder: Path) -> Path:
    """The server's repository with the verified model, in ``folder``. Raises RefusedError for a missing or altered file."""
    model = folder / "repository" / settings.model_name
    verify(settings.package, settings.onnx_sha256, model)
    (model / "config.pbtxt").write_text(settings.config, encoding="utf-8")
    return model.parent


def verify(package: Path, onnx_sha256: str, model: Path | None = None) -> None:
    """Compare every file with its sha256, and copy those that are served into the folder ``model`` when there is one.

    Raises RefusedError for a missing or altered file, and for a package of another graph.
    """
    files = listed_files(package)
    if files[GRAPH] != onnx_sha256:
        raise RefusedError(f"{package} holds a graph with sha256 {files[GRAPH]}, the service asks for {onnx_sha256}")
    for name, digest in files.items():
        inside = PurePosixPath(name)
        served = inside.parts[0] == "triton" and name != "triton/config.json"
        actual = copy(package / name, model / inside.relative_to("triton") if model and served else None)
        if actual != digest:
            raise RefusedError(
                f"{package}: {name} has been altered: sha256 {actual} instead of {digest}; export the model again"
            )


def listed_files(package: Path) -> dict[str, str]:
    """Digests by path from ``package.json``. Raises RefusedError when it is missing or incomplete."""
    description = read_description(package)
    files = description.get("files")
    if not isinstance(files, dict) or any(name not in files for name in _REQUIRED):
        raise RefusedError(f"{package}/package.json does not list {', '.join(_REQUIRED)}; export the model again")
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise RefusedError(f"{package}/package.json lists {name!r}, which leads out of the package")
    return files


def read_description(package: Path) -> dict[str, Any]:
    """The content of ``package.json``."""
    path = package / "package.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RefusedError(
            f"{path} is missing: there is no model package. Was it deleted, or is the volume empty?"
        ) from None
    except ValueError as error:
        raise RefusedError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RefusedError(f"{path} does not hold a JSON object")
    return content


def launch(settings: Settings, folder: Path, repository: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the server. Raises RefusedError when it is not installed."""
    command = [
        f"--model-repository={repository}",
        # Nothing can be loaded or unloaded later, and a server without its model ends and says why.
        *("--model-control-mode=none", "--exit-on-error=true", f"--exit-timeout-secs={EXIT_SECONDS}"),
        "--disable-auto-complete-config",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(settings)}",
        *(f"--http-address={settings.address}", "--http-port=8080"),
        *(f"--grpc-address={settings.address}", "--grpc-port=9000"),
        *(f"--metrics-address={settings.address}", "--metrics-port=8002"),
        # Of a container that ended, Kubernetes keeps 2 kB: why a model does not load must not be hidden by tables of settings.
        *("--log-format=ISO8601", "--log-info=false", "--metrics-config=summary_latencies=true"),
    ]
    closed = f"{_RESTRICTED}:{_SECRET_HEADER}={secrets.token_hex(32)}"
    command += [f"--http-restricted-api={closed}", f"--grpc-restricted-protocol={closed}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PELAGOS_", "AWS_"))}
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
        raise RefusedError("tritonserver is not in PATH, and PELAGOS_TRITON_HOME is not set: this is no serving image")
    return [found, *command], variables


def _from_wheel(home: Path, folder: Path) -> tuple[Path, list[str]]:
    """The server of nvidia-pytriton's wheel; its backend's parts lie apart and Triton wants them together."""
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
    """Of all regions of this server, and of the one that was here before in this pod."""
    name = f"{socket.gethostname()}/{settings.address}/{settings.model_name}"
    return f"pelagos-{hashlib.sha256(name.encode()).hexdigest()[:16]}-"


def free_shared_memory(settings: Settings) -> None:
    """A server that was killed leaves its regions behind, and they outlive the container."""
    for region in SHARED_MEMORY.glob(f"{shared_memory_prefix(settings)}*"):
        region.unlink(missing_ok=True)


def copy(source: Path, target: Path | None) -> str:
    """Copy a file, or only read it, and return the sha256 of what was read."""
    if source.is_symlink() or not source.is_file():
        raise RefusedError(f"{source} is missing, or is not a file of the package; export the model again")
    digest = hashlib.sha256()
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, contextlib.ExitStack() as stack:
        written = stack.enter_context(target.open("wb")) if target is not None else None
        while block := file.read(1024 * 1024):
            digest.update(block)
            if written is not None:
                written.write(block)
    return digest.hexdigest()


def fail(message: str, code: int) -> NoReturn:
    """End with one line, in the log and where Kubernetes looks for it."""
    line = " ".join(message.split())
    print(f"pelagos: {line}", file=sys.stderr)  # noqa: T201 - the container's log
    with contextlib.suppress(OSError):
        TERMINATION_LOG.write_text(line, encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
