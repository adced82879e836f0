"""Servers of DEEPaaS that tests share, one for each task; all start at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import deepaas_servers
from deepaas_servers import Server
from model_packages import environments, make_want, packages

__all__ = ["environments", "make_want", "packages"]

TASKS = ("Detection", "Classification", "InstanceSegmentation", "SemanticSegmentation", "PanopticSegmentation")


@pytest.fixture(scope="session")
def servers(
    packages: dict[str, tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """Servers by task. Uploaded files may have one MiB."""
    folder = tmp_path_factory.mktemp("servers")
    started = {
        task: deepaas_servers.start(Path(packages[task][0]), folder / task, PELAGOS_MAX_IMAGE_MEBIBYTES="1")
        for task in TASKS
    }
    try:
        for server in started.values():
            server.wait()
        yield started
    finally:
        for server in started.values():
            server.process.terminate()
        for server in started.values():
            server.stop()


@pytest.fixture
def detector(servers: dict[str, Server]) -> Server:
    return servers["Detection"]


@pytest.fixture
def package(packages: dict[str, tuple[str, str]]) -> Path:
    """The package of the detector."""
    return Path(packages["Detection"][0])
