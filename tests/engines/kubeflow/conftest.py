"""An engine with a fake server, which checks every request against the published client of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from kfp_fake_server.by_hand import ByHand
from kfp_fake_server.server import FakeServer
from kubeflow_worlds import COMPILED, TIMEOUTS, Cluster
from pelagos.engines.kubeflow.engine import KubeflowConfig
from pelagos.engines.kubeflow.placement import PodDefaults
from pelagos.ports.clock import FakeClock


@pytest.fixture(params=[False], ids=["single-user"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """The engine with a single-user server; parametrize indirectly with True for a multi-user one."""
    hand = ByHand()
    server = FakeServer(hand, multi_user=request.param)
    await server.start()
    namespaces: dict[str, str] = {}
    site = KubeflowConfig(
        COMPILED,
        PodDefaults(image="example.org/trainer"),
        namespace="" if request.param else "kubeflow",
        page="https://kubeflow.example.org",
        namespace_of=namespaces.get,
        timeouts=TIMEOUTS,
    )
    yield Cluster(server, hand, site, namespaces, FakeClock(datetime.now(UTC)))
    await server.stop()
    assert server.violations == []
