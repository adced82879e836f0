"""Why a step waits is reported in the cluster's words; the server calls it running all the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeflow_worlds import NAME, Cluster, make_request
from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos.ports.errors import UnboundError
from pelagos.ports.pipelines import RunResources, RunState
from pelagos.ports.tenants import Tenant

QUEUED = Tenant(queue="reef")
MAXIMUM = (
    "couldn't assign flavors to pod set main: insufficient quota for cpu in flavor default-flavor, previously considered podsets "
    "requests (0) + current podset request (1100m) > maximum capacity (1)"
)
USED_UP = (
    "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default-flavor, 1 more needed"
)
PODS = "couldn't assign flavors to pod set main: "
UNFIT = "flavor arm doesn't match node affinity"
TAINTED = "untolerated taint {spot true NoSchedule <nil>} in flavor spot"
LATER = "insufficient unused quota for cpu in flavor other, 1 more needed"
"""As Kueue 0.17 writes it."""


async def waiting(cluster: Cluster, priority: str = "", **status: Any) -> str:
    """Submit a run whose only step has a pod with this status; returns the run's id."""
    await cluster.engine.submit(make_request(tenant=QUEUED, resources=RunResources(priority=priority)))
    (run,) = cluster.runs()
    await cluster.until(lambda: run.identifier in cluster.hand.alive, "the step has a pod")
    cluster.hand.become(run.identifier, **status)
    return run.identifier


def unscheduled(reason: str, message: str) -> list[dict[str, Any]]:
    return [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]


def container(reason: str, message: str) -> list[dict[str, Any]]:
    return [
        {"name": "main", "image": "example.org/trainer", "state": {"waiting": {"reason": reason, "message": message}}}
    ]


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"conditions": unscheduled("Unschedulable", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")},
            reasons.UNSCHEDULABLE,
            "step prepare waits for a node with room: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            {"conditions": unscheduled("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")},
            reasons.UNSCHEDULABLE,
            "3 Insufficient cpu. Besides what spec.resources asks for, the pod of each step has Argo's",
        ),
        (
            {"conditions": unscheduled("Unschedulable", 'persistentvolumeclaim "data" not found')},
            reasons.VOLUME_NOT_READY,
            'step prepare waits for a volume: persistentvolumeclaim "data" not found',
        ),
        (
            {"conditions": unscheduled("Unschedulable", "pod has unbound immediate PersistentVolumeClaims")},
            reasons.VOLUME_NOT_READY,
            "unbound immediate PersistentVolumeClaims",
        ),
        (
            {"containerStatuses": container("ImagePullBackOff", "Back-off pulling image")},
            reasons.IMAGE_NOT_PULLED,
            "step prepare waits for its image example.org/trainer: ImagePullBackOff: Back-off pulling image",
        ),
        (
            {"containerStatuses": container("InvalidImageName", "couldn't parse image name")},
            reasons.IMAGE_NAME_INVALID,
            "Correct PELAGOS_TRAINER_IMAGE",
        ),
        (
            {"containerStatuses": container("CreateContainerConfigError", 'secret "s3" not found')},
            reasons.STEP_NOT_CONFIGURED,
            'secret "s3" not found',
        ),
        ({}, reasons.STEP_STARTING, "step prepare is being started"),
    ],
)
async def test_what_a_pod_waits_for_is_told_with_a_reason(
    cluster: Cluster, status: dict[str, Any], reason: Reason, words: str
) -> None:
    await waiting(cluster, **status)

    run = await cluster.find()

    assert cluster.runs()[0].state == "RUNNING"
    assert (run.state, run.reason, run.started_at) == (RunState.PENDING, reason, None)
    assert words in run.message


@pytest.mark.parametrize(
    ("event", "words", "reason"),
    [
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "ca" : configmap "private-ca" not found',
            reasons.STEP_NOT_CONFIGURED,
        ),
        ("FailedAttachVolume", "AttachVolume.Attach failed for volume pvc-1", reasons.VOLUME_NOT_READY),
    ],
)
async def test_what_a_node_cannot_mount_is_told_by_its_events(
    cluster: Cluster, event: str, words: str, reason: Reason
) -> None:
    identifier = await waiting(cluster)
    pod = cluster.hand.body(identifier)
    pod["spec"]["nodeName"] = "gpu-1"
    about = {"name": pod["metadata"]["name"]}
    told = {
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": about,
        "type": "Warning",
        "reason": event,
        "message": words,
    }
    cluster.shown.more.append(told)

    run = await cluster.find()

    assert (run.state, run.reason) == (RunState.PENDING, reason)
    assert words in run.message


@pytest.mark.parametrize(
    ("queues", "message", "reason", "words"),
    [
        (["reef"], USED_UP, reasons.QUEUED, f"waits in the queue reef: {USED_UP}"),
        (["reef"], MAXIMUM, reasons.REQUEST_TOO_LARGE, "can never start in the queue reef"),
        ([], "LocalQueue reef doesn't exist", reasons.QUEUE_NOT_USABLE, "LocalQueue reef doesn't exist"),
        (["reef"], "LocalQueue reef is inactive", reasons.QUEUE_NOT_USABLE, "is inactive"),
        ([], "", reasons.QUEUE_NOT_USABLE, "there is no LocalQueue reef"),
        (["reef"], "", reasons.QUEUED, "Kueue does not say why"),
        (["reef"], "LocalQueue reef is stopped", reasons.QUEUE_NOT_USABLE, "is stopped"),
        (["reef"], "ClusterQueue all is terminating or missing", reasons.QUEUE_NOT_USABLE, "terminating or missing"),
        (["reef"], "ClusterQueue all not found", reasons.QUEUE_NOT_USABLE, "not found"),
        (["reef"], "Workload namespace doesn't match ClusterQueue selector", reasons.QUEUE_NOT_USABLE, "selector"),
        (["reef"], f"{PODS}resource nvidia.com/gpu unavailable in ClusterQueue", reasons.REQUEST_TOO_LARGE, "never"),
        (["reef"], "resources didn't satisfy LimitRange constraints: cpu", reasons.REQUEST_TOO_LARGE, "LimitRange"),
        (["reef"], f"{MAXIMUM}, {UNFIT}, {TAINTED}", reasons.REQUEST_TOO_LARGE, "can never start"),
        # Another flavor could hold it once other pods have ended.
        (["reef"], f"{MAXIMUM}, {LATER}", reasons.QUEUED, "waits in the queue reef"),
        (["reef"], f"{UNFIT}, {LATER}", reasons.QUEUED, "waits in the queue reef"),
        (["reef"], f"{MAXIMUM}, {'x' * 2000}, {LATER}", reasons.QUEUED, "waits in the queue reef"),
        (["reef"], "Workload no longer fits after processing another workload", reasons.QUEUED, "no longer fits"),
    ],
)
async def test_not_yet_and_never_are_apart_in_a_queue(
    cluster: Cluster, queues: list[str], message: str, reason: Reason, words: str
) -> None:
    identifier = await waiting(cluster, conditions=unscheduled("SchedulingGated", "Scheduling is blocked"))
    pod = cluster.hand.body(identifier)
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    pod["metadata"]["uid"] = "u1"
    cluster.shown.more += [{"kind": "LocalQueue", "metadata": {"name": name}} for name in queues]
    condition = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}
    owner = {"ownerReferences": [{"uid": "u1"}], "name": "pod-x"}
    cluster.shown.more.append(
        {"kind": "Workload", "metadata": owner, "status": {"conditions": [condition] if message else []}}
    )

    run = await cluster.find()

    assert (run.state, run.reason) == (RunState.PENDING, reason)
    assert words in run.message

    del pod["spec"]["schedulingGates"]
    cluster.hand.begin(identifier)
    cluster.later(minutes=2)
    started = await cluster.engine.find(NAME)
    assert started is not None
    assert started.state is RunState.RUNNING


def in_the_queue(name: str, **changes: int) -> dict[str, Any]:
    """A pod in the queue of the waiting run; ``finished`` and ``deleted`` are minutes ago."""
    ago = {key: (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat() for key, minutes in changes.items()}
    metadata = {"name": name, "namespace": "kubeflow", "labels": {"kueue.x-k8s.io/queue-name": "reef"}}
    metadata["finalizers"] = ["kueue.x-k8s.io/managed"]
    if "deleted" in ago:
        metadata["deletionTimestamp"] = ago["deleted"]
    state = {"terminated": {"exitCode": 0, "finishedAt": ago["finished"]}} if "finished" in ago else {"running": {}}
    phase = "Succeeded" if "finished" in ago else "Running"
    status = {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]}
    return {"kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("other", "minutes", "words"),
    [
        ("old", {"finished": 10}, "But the pod old has ended, and Kueue keeps its quota"),
        ("old", {"deleted": 10}, "But the pod old should have ended by "),
        ("new", {"finished": 0}, ""),
        ("new", {"deleted": 0}, ""),
        ("busy", {}, ""),
    ],
    ids=["finalizer-stays", "does-not-end", "has-just-ended", "was-just-told-to-end", "at-work"],
)
async def test_a_pod_that_holds_quota_for_no_work_is_named(
    cluster: Cluster, other: str, minutes: dict[str, int], words: str
) -> None:
    identifier = await waiting(cluster, conditions=unscheduled("SchedulingGated", "Scheduling is blocked"))
    pod = cluster.hand.body(identifier)
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "reef"
    cluster.shown.more += [{"kind": "LocalQueue", "metadata": {"name": "reef"}}, in_the_queue(other, **minutes)]

    run = await cluster.find()

    assert run.reason == reasons.QUEUED
    assert (words in run.message) if words else ("But " not in run.message)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            'pods "p" is forbidden: exceeded quota: q, requested: cpu=2100m, used: cpu=1, limited: cpu=3',
            reasons.QUOTA_EXCEEDED,
        ),
        (
            'pods "p" is forbidden: exceeded quota: q, requested: cpu=2100m, used: cpu=0, limited: cpu=2',
            reasons.REQUEST_TOO_LARGE,
        ),
        ('pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', reasons.POD_REFUSED),
        ('admission webhook "policy.example.org" denied the request: no', reasons.POD_REFUSED),
        ("etcdserver: request timed out", reasons.STEP_STARTING),
    ],
)
async def test_a_pod_that_the_cluster_does_not_take_is_told_by_the_workflow(
    cluster: Cluster, said: str, reason: Reason
) -> None:
    identifier = await waiting(cluster)
    cluster.hand.lose(identifier)
    cluster.hand.tell(identifier, "Pending", said)

    run = await cluster.find()

    assert (run.state, run.reason) == (RunState.PENDING, reason)
    assert said in run.message


async def test_without_rights_for_queues_and_workflows_the_pod_tells_what_it_can(cluster: Cluster) -> None:
    await waiting(cluster, conditions=unscheduled("Unschedulable", "0/1 nodes are available"))
    listed = cluster.shown.list

    async def pods_only(kind: Any, *arguments: Any, **named: Any) -> list[dict[str, Any]]:
        if kind.plural != "pods":
            raise UnboundError("Kubernetes", f"{kind.plural} is forbidden")
        return await listed(kind, *arguments, **named)

    cluster.shown.list = pods_only  # type: ignore[method-assign]

    assert (await cluster.find()).reason == reasons.UNSCHEDULABLE


async def test_a_queue_label_that_did_not_arrive_at_the_pods_is_told(cluster: Cluster) -> None:
    identifier = await waiting(cluster)
    assert cluster.hand.body(identifier)["metadata"]["labels"].pop("kueue.x-k8s.io/queue-name") == "reef"
    cluster.hand.begin(identifier)

    run = await cluster.find()

    assert run.state is RunState.RUNNING
    assert "do not have the label of the queue reef" in run.message


async def test_a_run_before_its_workflow_is_told_as_not_known(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    (run,) = cluster.runs()
    await cluster.until(lambda: run.identifier in cluster.hand.alive, "the step has a pod")
    cluster.hand.bodies.clear()
    run.shown = run.document() | {"state": "PENDING", "run_details": {}}
    cluster.server.faults.frozen = True

    found = await cluster.find()

    assert (found.state, found.reason) == (RunState.PENDING, reasons.QUEUED)
    assert "does not give the cause" in found.message


async def test_what_was_waited_for_is_not_told_for_ever_when_nothing_can_be_seen_any_more(cluster: Cluster) -> None:
    identifier = await waiting(cluster, conditions=unscheduled("Unschedulable", "0/1 nodes are available"))
    assert (await cluster.find()).reason == reasons.UNSCHEDULABLE
    cluster.hand.begin(identifier)
    cluster.shown.refusal = UnboundError("Kubernetes", "pods is forbidden")
    cluster.later(seconds=60)
    found = await cluster.engine.find(NAME)
    assert found is not None
    assert found.reason == reasons.UNSCHEDULABLE

    cluster.later(minutes=5)
    found = await cluster.engine.find(NAME)

    assert found is not None
    assert (found.state, found.reason) == (RunState.RUNNING, None)


def hold(cluster: Cluster, identifier: str, message: str | None) -> None:
    """Have Kueue hold the pod back, with a Workload whose message is ``message``; with None, without a Workload."""
    pod = cluster.hand.body(identifier)
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    pod["metadata"]["uid"] = "u1"
    cluster.shown.more.append({"kind": "LocalQueue", "metadata": {"name": "reef"}})
    if message is not None:
        condition = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}
        metadata = {"ownerReferences": [{"uid": "u1"}], "name": "pod-x"}
        cluster.shown.more.append({"kind": "Workload", "metadata": metadata, "status": {"conditions": [condition]}})


@pytest.mark.parametrize(
    ("classes", "message", "reason", "words"),
    [
        (
            ["low", "mid"],
            None,
            reasons.PRIORITY_NOT_USABLE,
            "no WorkloadPriorityClass high in the cluster; there are: low, mid.",
        ),
        ([], None, reasons.PRIORITY_NOT_USABLE, "there are: none."),
        ([f"c{n:02}" for n in range(14)], None, reasons.PRIORITY_NOT_USABLE, "c09 and 4 more"),
        (["high"], None, reasons.QUEUED, "Kueue does not say why"),
        # Deleted since: Workloads that Kueue already has keep their priority.
        (["low"], USED_UP, reasons.QUEUED, USED_UP),
    ],
)
async def test_a_priority_that_is_gone_is_said_with_those_that_there_are(
    cluster: Cluster, classes: list[str], message: str | None, reason: Reason, words: str
) -> None:
    identifier = await waiting(cluster, "high", conditions=unscheduled("SchedulingGated", "Scheduling is blocked"))
    hold(cluster, identifier, message)
    cluster.shown.more += [{"kind": "WorkloadPriorityClass", "metadata": {"name": name}} for name in classes]

    run = await cluster.find()

    assert (run.state, run.reason, run.priority) == (RunState.PENDING, reason, "high")
    assert words in run.message


async def test_without_the_right_to_see_priorities_a_step_that_kueue_leaves_alone_is_told_so(cluster: Cluster) -> None:
    identifier = await waiting(cluster, "high", conditions=unscheduled("SchedulingGated", "Scheduling is blocked"))
    hold(cluster, identifier, None)
    listed = cluster.shown.list

    async def all_but_priorities(kind: Any, *arguments: Any, **named: Any) -> list[dict[str, Any]]:
        if kind.plural == "workloadpriorityclasses":
            raise UnboundError("Kubernetes", "workloadpriorityclasses is forbidden")
        return await listed(kind, *arguments, **named)

    cluster.shown.list = all_but_priorities  # type: ignore[method-assign]

    run = await cluster.find()

    assert run.reason == reasons.QUEUED
    assert "has no Workload for it, as when there is no WorkloadPriorityClass high" in run.message
