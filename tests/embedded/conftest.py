"""Fixtures of the embedded mode.

Inputs: folders of pytest. Real: processes, signals, ports, HTTP, and where a test asks for ``control_plane`` etcd and
kube-apiserver. Not real: the servers of the tests about supervision (``fake_server.py``); time is shortened by ``QUICK``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import control_plane as planes
from pelagos.embedded.layout import Layout
from pelagos.embedded.supervisor import Supervisor
from supervised import QUICK, FakeParts


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty home folder."""
    found = Layout.of(tmp_path / "home")
    found.create()
    return found


@pytest.fixture
def fake(layout: Layout) -> FakeParts:
    """Creates parts that run the fake server."""
    return FakeParts(layout)


@pytest.fixture
async def supervisor(layout: Layout) -> AsyncIterator[Supervisor]:
    """A supervisor that is stopped at the end, even if the test fails."""
    running = Supervisor(layout, {}, QUICK)
    yield running
    await running.stop()


@pytest.fixture(scope="package")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[planes.ControlPlane]:
    """One real API server for all tests of this folder, without our resources."""
    running = planes.start_control_plane(tmp_path_factory.mktemp("control-plane"))
    yield running
    running.stop()
