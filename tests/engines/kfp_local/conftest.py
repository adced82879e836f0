"""The local engine with real kfp.local runs; nothing is intercepted. The test decides what a step does (controllable_flows)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pipeline_worlds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both flows, with a step that obeys the test."""
    return pipeline_worlds.compile_flows(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
async def world(tmp_path: Path, compiled: Path) -> AsyncIterator[pipeline_worlds.KfpLocalWorld]:
    """The engine with one run of each flow at a time, started directly: there is no fork server."""
    real = pipeline_worlds.KfpLocalWorld(tmp_path, compiled, capacity=1)
    yield real
    await real.close()
