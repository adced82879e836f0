"""An operator that no longer leads changes nothing on the server, even if it loses leadership in the middle of a call."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kubeflow_worlds import NAME, Cluster, make_request
from pelagos.engines.kubeflow.engine import Kubeflow
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.observability import calls
from pelagos.ports.fakes.leadership import LeadershipFake
from pelagos.ports.leadership import Leadership, NotLeadingError
from pelagos.ports.pipelines import Pipelines


@dataclass
class LostAt(LeadershipFake):
    """Leads until the server receives a certain operation."""

    cluster: Cluster
    operation: str

    @property
    def leads(self) -> bool:  # type: ignore[override]
        """Called right before each request."""
        return self.operation not in self.cluster.server.requests


def engine_of(cluster: Cluster, leadership: Leadership) -> Kubeflow:
    """The engine as wiring creates it."""
    rest = KubeflowRest(cluster.server.url, guard=calls.guard(leadership))
    engine = Kubeflow(rest, cluster.site, clock=cluster.clock)
    return calls.wrapped(engine, Pipelines, name="pipelines", require=calls.guard(leadership))


def alive(cluster: Cluster) -> int:
    return sum(run.state in {"PENDING", "RUNNING"} for run in cluster.runs())


@pytest.mark.parametrize("operation", ["ExperimentService_ListExperiments", "RunService_ListRuns"])
async def test_a_leader_that_loses_its_lease_between_look_up_and_creation_creates_nothing(
    cluster: Cluster, operation: str
) -> None:
    if operation == "RunService_ListRuns":  # the experiment exists since an earlier attempt
        await cluster.engine.submit(make_request())
        await cluster.finish(cluster.runs()[0], "no")
        cluster.server.requests.clear()
    before = len(cluster.runs()), len(cluster.server.store.experiments)

    with pytest.raises(NotLeadingError):
        await engine_of(cluster, LostAt(cluster, operation)).submit(make_request(attempt=2))

    assert (len(cluster.runs()), len(cluster.server.store.experiments)) == before


async def test_who_only_looks_leaves_duplicates_to_the_leader(cluster: Cluster) -> None:
    cluster.server.faults.create_twice = 1
    await engine_of(cluster, LostAt(cluster, "RunService_CreateRun")).submit(make_request())
    assert alive(cluster) == 2
    follower = engine_of(cluster, LeadershipFake())

    found = await follower.find(NAME)

    assert found is not None
    assert alive(cluster) == 2
    await engine_of(cluster, LeadershipFake(leads=True)).find(NAME)
    await cluster.until(lambda: alive(cluster) == 1, "the leader ends the duplicate")


async def test_a_leader_that_loses_its_lease_after_ending_a_run_deletes_nothing(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])

    with pytest.raises(NotLeadingError):
        await engine_of(cluster, LostAt(cluster, "RunService_TerminateRun")).delete(NAME)

    assert len(cluster.runs()) == 1
