"""A run's place in its queue is reported as Kueue shows it: since when, which place, why it waits, when it was admitted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubeflow_worlds import NAME, Cluster, make_request
from pelagos.engines.kubernetes.objects import Collection
from pelagos.ports.errors import OutageError, UnboundError
from pelagos.ports.pipelines import PipelineRun, Queueing, RunState
from pelagos.ports.tenants import Tenant

GATE = [{"name": "kueue.x-k8s.io/admission"}]
WORDS = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed"
SINCE, ADMITTED = "2026-01-01T12:00:00Z", "2026-01-01T12:05:00Z"
BEGAN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def place(name: str, cluster_queue: Any, local_queue: int = 0) -> dict[str, Any]:
    """A pending workload as the visibility API of Kueue 0.17 lists it."""
    return {
        "metadata": {"name": name, "namespace": "reef", "creationTimestamp": SINCE},
        "priority": 0,
        "localQueueName": "reef",
        "positionInClusterQueue": cluster_queue,
        "positionInLocalQueue": local_queue,
    }


def summary(*items: Any) -> dict[str, Any]:
    """The answer of localqueues/reef/pendingworkloads."""
    return {"kind": "LocalQueue", "metadata": {"name": "reef/pendingworkloads"}, "items": list(items)}


def workload(uid: str, name: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "creationTimestamp": SINCE, "ownerReferences": [{"uid": uid}]}
    return {"kind": "Workload", "metadata": metadata, "status": {"conditions": list(conditions)}}


def waits(message: str = WORDS) -> dict[str, Any]:
    return {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}


def is_admitted(at: str = ADMITTED) -> dict[str, Any]:
    return {"type": "Admitted", "status": "True", "reason": "Admitted", "lastTransitionTime": at}


async def held(cluster: Cluster) -> str:
    """Submit a run whose pod Kueue holds back; returns the run's id."""
    await cluster.engine.submit(make_request(tenant=Tenant(queue="reef")))
    (run,) = cluster.runs()
    await cluster.until(lambda: run.identifier in cluster.hand.alive, "the step has a pod")
    pod = cluster.hand.body(run.identifier)
    pod["spec"]["schedulingGates"], pod["metadata"]["uid"] = GATE, "u1"
    cluster.shown.more += [
        {"kind": "LocalQueue", "metadata": {"name": "reef"}},
        workload("u1", "pod-x", waits()),
        workload("u2", "pod-other", waits("of somebody else")),
    ]
    return run.identifier


async def found_later(cluster: Cluster, minutes: int) -> PipelineRun:
    """The run after some minutes, observed again."""
    cluster.later(minutes=minutes)
    run = await cluster.engine.find(NAME)
    assert run is not None
    return run


async def test_who_waits_is_told_since_when_at_which_place_and_why(cluster: Cluster) -> None:
    await held(cluster)
    cluster.shown.more.append(summary(place("pod-other", 3), place("pod-x", 4, 1)))

    run = await cluster.find()

    assert run.state is RunState.PENDING
    assert run.queue == Queueing("reef", since=BEGAN, admitted_at=None, position=5, reason=WORDS)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [place("pod-other", 0)],
        [place("pod-x", -1)],
        [place("pod-x", True)],
        [place("pod-x", "1")],
        [place("pod-x", 10**12)],
        ["nonsense", {"metadata": "x"}, {}],
    ],
    ids=["nobody", "others", "negative", "bool", "text", "huge", "nonsense"],
)
async def test_a_place_that_is_not_known_is_not_told(cluster: Cluster, items: list[Any]) -> None:
    await held(cluster)
    cluster.shown.more.append(summary(*items))

    found = (await cluster.find()).queue

    assert found is not None
    assert (found.position, found.reason) == (None, WORDS)


@pytest.mark.parametrize("why", [UnboundError("Kubernetes", "forbidden"), OutageError("Kubernetes", "503")])
async def test_without_the_visibility_api_all_else_is_told_and_it_is_seldom_asked_for(
    cluster: Cluster, why: Exception
) -> None:
    await held(cluster)
    get, asked = cluster.shown.get, list[str]()

    async def refusing(kind: Collection, namespace: str, name: str) -> Any:
        if "pendingworkloads" in name:
            asked.append(kind.api_version)
            raise why
        return await get(kind, namespace, name)

    cluster.shown.get = refusing  # type: ignore[method-assign]

    looks = [await cluster.find() for _ in range(5)]

    assert {run.queue for run in looks} == {Queueing("reef", since=BEGAN, admitted_at=None, reason=WORDS)}
    assert asked == ["visibility.kueue.x-k8s.io/v1beta2"]


async def test_who_was_admitted_is_told_when_and_workloads_are_not_read_again(cluster: Cluster) -> None:
    identifier = await held(cluster)
    cluster.shown.more.append(summary(place("pod-x", 0)))
    assert (await cluster.find()).queue == Queueing("reef", since=BEGAN, admitted_at=None, position=1, reason=WORDS)
    del cluster.hand.body(identifier)["spec"]["schedulingGates"]
    cluster.shown.more[:] = [workload("u1", "pod-x", {**waits(), "status": "True"}, is_admitted())]
    cluster.hand.begin(identifier)
    admitted = Queueing("reef", since=BEGAN, admitted_at=datetime(2026, 1, 1, 12, 5, tzinfo=UTC))

    assert (await found_later(cluster, 1)).queue == admitted

    cluster.shown.more.clear()
    run = await found_later(cluster, 2)
    assert (run.state, run.queue) == (RunState.RUNNING, admitted)

    cluster.hand.finish(identifier)
    await cluster.until(lambda: cluster.runs()[0].state == "SUCCEEDED", "the run ends")
    assert (await found_later(cluster, 3)).queue is None


async def test_an_admission_before_the_queue_by_another_clock_is_no_negative_wait(cluster: Cluster) -> None:
    identifier = await held(cluster)
    del cluster.hand.body(identifier)["spec"]["schedulingGates"]
    cluster.shown.more[:] = [workload("u1", "pod-x", is_admitted("2026-01-01T11:59:59Z"))]

    assert (await cluster.find()).queue == Queueing("reef", since=BEGAN, admitted_at=BEGAN)


async def test_without_kueue_nothing_is_told_of_a_queue(cluster: Cluster) -> None:
    identifier = await held(cluster)
    cluster.shown.missing |= {"workloads", "localqueues"}
    cluster.hand.begin(identifier)

    assert (await cluster.find()).queue is None
