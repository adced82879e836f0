"""One real API server; candidates for a Lease in this process, or whole operators in processes of their own.

In: signals, accidents of the API server, Leases as others might write them. Out: who leads, and who changed what.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from control_plane import ControlPlane, start_control_plane
from pelagos.engines.kubernetes_rest import KubernetesRest
from pelagos.wiring import Credentials, rest_client

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One API server for all tests, with our kinds."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    running.apply_crds()
    yield running
    running.stop()


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    name = f"lead-{next(_numbers)}"
    plane.create_namespace(name)
    return name


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[KubernetesRest]:
    """The client that engines use."""
    made = rest_client(Credentials(plane.url, plane.token, str(plane.authority), None))
    yield made
    await made.close()
    await asyncio.sleep(0.05)  # TLS connections end a moment after their session


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Candidates that crash drop the request that they are in, with its connection; that is what a crash does."""
    for item in items:
        if item.path.name == "test_lease.py":
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
