"""Real outside systems for contract tests: each is started once per session, and only when a test asks for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pelagos.ports.serving import ServiceWant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeWant = Callable[..., ServiceWant]

ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[2] / ".venvs"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def environments() -> Path:
    """The folder with the environments ``tracking`` and ``triton``."""
    return ENVIRONMENTS


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on SQLite."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command: list[str | Path] = [
        *(ENVIRONMENTS / "tracking/bin/mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", folder / "artifacts", "--serve-artifacts"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        _wait(f"{uri}/health", server, folder / "log")
        yield uri
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Model packages made by the real exporter: the folder and the sha256 of the graph by task."""
    folder = tmp_path_factory.mktemp("packages")
    builder = Path(__file__).with_name("build_packages.py")
    command = [ENVIRONMENTS / "pipelines/bin/python", builder, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {task: (uri, digest) for task, (uri, digest) in json.loads(done.stdout).items()}


@pytest.fixture
def make_want(packages: dict[str, tuple[str, str]]) -> MakeWant:
    """Build the want of a service; its digest follows from its fields."""

    def make(task: str = "Detection", **changes: Any) -> ServiceWant:
        uri, onnx_sha256 = packages[task]
        fields: dict[str, Any] = {
            "uid": "5f0c", "namespace": "default", "name": "detector", "model_name": "detector",
            "package_uri": uri, "onnx_sha256": onnx_sha256, "max_batch_size": 4, "max_queue_delay": 1000,
            "instances": 1, "confidence": "0.25", "iou": "0.7", "cpu": 1,
        }  # fmt: skip
        fields |= changes
        return ServiceWant(**{"digest": repr(sorted(fields.items())), **fields})

    return make
