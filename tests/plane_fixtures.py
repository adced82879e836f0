"""Fixtures of suites that need one real API server with our kinds; imported by their conftest.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from control_plane import ControlPlane, start_control_plane
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.wiring import Credentials, rest_client


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One API server for all tests, with our kinds."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    running.apply_crds()
    yield running
    running.stop()


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[KubernetesRest]:
    """The client that engines use."""
    made = rest_client(Credentials(plane.url, plane.token, str(plane.authority), None))
    yield made
    await made.close()
    await asyncio.sleep(0.05)  # TLS connections close shortly after their session
