"""One real API server; candidates for a Lease in this process, or whole operators in separate processes.

In: signals, faults of the API server, Leases as others might write them. Out: who leads, and who changed what.
"""

from __future__ import annotations

import itertools

import pytest

from control_plane import ControlPlane
from plane_fixtures import api, plane

__all__ = ["api", "plane"]

_numbers = itertools.count(1)


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A separate namespace for the test."""
    name = f"lead-{next(_numbers)}"
    plane.create_namespace(name)
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A candidate that crashes drops its current request with the connection, as a real crash does: ignore such warnings."""
    for item in items:
        if item.path.name == "test_lease.py":
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
