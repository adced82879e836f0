"""Real outside systems for contract tests: each is started once per session, and only when a test asks for it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from control_plane import ControlPlane, start_control_plane
from model_packages import ENVIRONMENTS, environments, make_want, packages
from serving_clusters import install_kserve

__all__ = ["environments", "make_want", "mlflow_uri", "packages"]

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server for the engines that serve on a cluster, with KServe's kinds."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    install_kserve(running)
    yield running
    running.stop()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="pelagos-") as folder:
        yield Path(folder)
