"""Real outside systems for contract tests: each is started once per session, and only when a test asks for it."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from control_plane import ControlPlane, start_control_plane
from mlflow_servers import MlflowServer
from model_packages import environments, make_want, packages
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
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server.uri
    server.kill()


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
