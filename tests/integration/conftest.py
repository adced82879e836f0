"""One real API server for all integration tests; one namespace and one operator for each. See tests/sites.py."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_plane import ControlPlane
from plane_fixtures import plane
from sites import Site

__all__ = ["plane"]

_numbers = itertools.count(1)


@pytest.fixture
async def site(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Site]:
    """A separate namespace, with a running operator."""
    namespace = f"site-{next(_numbers)}"
    plane.create_namespace(namespace)
    made = Site(plane, namespace, tmp_path)
    await made.start_operator()
    yield made
    await made.stop_operator()


@pytest.fixture
def no_rules(plane: ControlPlane) -> Iterator[None]:
    """For the test, the server accepts what breaks a rule across fields, like one without CEL."""
    with plane.without_rules():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stopping kopf within a test's own event loop leaves its watch connections unclosed: ignore warnings about that."""
    for item in items:
        if "/integration/" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
