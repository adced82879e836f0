"""One real API server for all integration tests; one namespace and one operator for each. See tests/sites.py."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_plane import ControlPlane, start_control_plane
from sites import Site


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One API server for all tests, with our kinds."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    running.apply_crds()
    yield running
    running.stop()


_numbers = itertools.count(1)


@pytest.fixture
async def site(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Site]:
    """A namespace of its own, with a running operator."""
    namespace = f"site-{next(_numbers)}"
    plane.create_namespace(namespace)
    made = Site(plane, namespace, tmp_path)
    await made.start_operator()
    yield made
    await made.stop_operator()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stopping kopf within a test's own event loop drops its watch connections unclosed; that is no fault of ours."""
    for item in items:
        if "/integration/" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
