"""The world of a contract test is the shipped fake, and then each engine.

Runs of pipelines are real processes: those of kfp.local, and those that a fake server for a Kubeflow Pipelines server starts.
Model servers are real, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import pipeline_worlds
from model_packages import environments, make_want, packages
from object_storage import bucket, object_storage
from pelagos.engines.processes import groups
from serving_clusters import plane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

__all__ = [
    "bucket",
    "compiled",
    "environments",
    "fork_server",
    "make_want",
    "object_storage",
    "packages",
    "plane",
    "world",
]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both flows, with a step that obeys the test."""
    return pipeline_worlds.compile_flows(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="package")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One warm fork server for all worlds, so that a run begins in a tenth of a second."""
    folder = tmp_path_factory.mktemp("server")
    command: list[str | Path] = [
        pipeline_worlds.PYTHON,
        "-m",
        "pelagos_pipelines.local_fork_server",
        folder / "socket",
        "300",
    ]
    server = groups.start_detached(command, environment=os.environ, output=folder / "log")
    yield folder / "socket"
    os.kill(server.pid, 15)


@pytest.fixture(params=["fake", "kfp_local", "kubeflow"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[pipeline_worlds.World]:
    """A world with two runs of each flow at a time."""
    if request.param == "fake":
        yield pipeline_worlds.FakeWorld(capacity=2)
        return
    if request.param == "kubeflow":
        cluster = pipeline_worlds.KubeflowWorld(tmp_path, request.getfixturevalue("compiled"), capacity=2)
        yield await cluster.start()
        await cluster.close()
        return
    server = request.getfixturevalue("fork_server")
    await pipeline_worlds.until(server.exists, "the fork server's start")
    compiled = request.getfixturevalue("compiled")
    real = pipeline_worlds.KfpLocalWorld(tmp_path, compiled, capacity=2, server=server)
    yield real
    await real.close()
