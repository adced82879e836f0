"""Why a step failed is read from its pod, or from the Workflow if the pod no longer exists: the server itself does not say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kfp_fake_server.backends import Outcome
from kubeflow_worlds import NAME, Cluster, make_request
from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos.ports.errors import OutageError, UnboundError
from pelagos.ports.pipelines import PipelineRun, RunState
from pelagos.ports.tenants import Tenant

POD = "dataset-preparation-"


async def ended(cluster: Cluster, said: str, **status: Any) -> PipelineRun:
    """A run whose only step ended with this message from Argo, and this status of its pod."""
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    cluster.hand.end(run.identifier, said, **status)
    await cluster.until(lambda: run.state == "FAILED", "the run fails")
    return await cluster.find()


def containers(**states: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "state": {"terminated": state}} for name, state in states.items()]


DELETED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}


async def test_the_server_itself_says_nothing_of_it(cluster: Cluster) -> None:
    await ended(
        cluster,
        "Error (exit code 1)",
        containerStatuses=containers(main={"exitCode": 1, "message": "ValueError: nets"}),
    )

    told = json.dumps(cluster.runs()[0].document())

    assert "error" not in told
    assert "ValueError" not in told
    assert POD not in "".join(
        each["pod_name"] for each in cluster.runs()[0].document()["run_details"]["task_details"] if "pod_name" in each
    )


async def test_an_error_is_the_containers_and_names_step_pod_and_the_command_for_its_log(cluster: Cluster) -> None:
    main = {"exitCode": 1, "reason": "Error", "message": "ValueError: the nets were empty\n"}
    run = await ended(cluster, "Error (exit code 1)", containerStatuses=containers(wait={"exitCode": 0}, main=main))

    pod = cluster.hand.pods[0].name
    assert run.state is RunState.FAILED
    assert run.message == (
        f"step prepare failed: Error (exit code 1): ValueError: the nets were empty (pod kubeflow/{pod}; "
        "its log: pelagos logs frames -n reef)"
    )


async def test_too_little_memory_is_a_failure_that_names_the_field(cluster: Cluster) -> None:
    main = {"exitCode": 137, "reason": "OOMKilled"}
    run = await ended(cluster, "OOMKilled (exit code 137)", containerStatuses=containers(main=main))

    assert run.state is RunState.FAILED
    assert (
        "step prepare ran out of memory (OOMKilled (exit code 137)); give it more in spec.resources.memory"
        in run.message
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory.",
        ),
        ({"reason": "NodeLost", "message": "Node gpu-3 is unresponsive"}, "NodeLost: Node gpu-3 is unresponsive"),
        ({"reason": "OutOfnvidia.com/gpu", "message": "Pod was rejected"}, "OutOfnvidia.com/gpu: Pod was rejected"),
        (
            {"conditions": [DELETED], "containerStatuses": containers(main={"exitCode": 143, "reason": "Error"})},
            "EvictionByEvictionAPI: Eviction API: evicting",
        ),
        (
            {
                "conditions": [{**DELETED, "reason": "PreemptionByScheduler"}],
                "containerStatuses": containers(main={"exitCode": 1}),
            },
            "PreemptionByScheduler: Eviction API: evicting",
        ),
        ({"containerStatuses": containers(main={"exitCode": 137, "reason": "Error"})}, "Error (exit code 137)"),
    ],
    ids=["evicted", "node-lost", "no-room-after-all", "eviction-api", "preempted", "killed"],
)
async def test_a_pod_that_was_ended_from_outside_is_an_interruption(
    cluster: Cluster, status: dict[str, Any], words: str
) -> None:
    run = await ended(cluster, "Error (exit code 143)", **status)

    assert run.state is RunState.INTERRUPTED
    assert f"the pod of step prepare ended without an outcome: {words}" in run.message


@pytest.mark.parametrize(
    ("deleted_at", "grace", "state"),
    [("12:00:07Z", 0, RunState.FAILED), ("12:00:37Z", 30, RunState.FAILED), ("12:00:34Z", 30, RunState.INTERRUPTED)],
    ids=["collected", "deleted-afterwards", "deleted-before"],
)
async def test_a_step_that_had_failed_before_its_pod_was_deleted_is_a_failure(
    cluster: Cluster, deleted_at: str, grace: int, state: RunState
) -> None:
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    metadata = cluster.hand.body(run.identifier)["metadata"]
    metadata |= {"deletionTimestamp": f"2026-01-01T{deleted_at}", "deletionGracePeriodSeconds": grace}
    main = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T12:00:05Z"}
    cluster.hand.end(run.identifier, "Error (exit code 1)", containerStatuses=containers(main=main))
    await cluster.until(lambda: run.state == "FAILED", "the run fails")

    found = await cluster.find()

    assert found.state is state
    assert ("its pod was deleted" in found.message) == (state is RunState.INTERRUPTED)


async def test_the_time_limit_is_a_failure(cluster: Cluster) -> None:
    words = "Pod was active on the node longer than the specified deadline"
    run = await ended(cluster, "Pod was active", reason="DeadlineExceeded", message=words)

    assert run.state is RunState.FAILED
    assert f"DeadlineExceeded: {words}" in run.message


async def test_a_helper_that_fails_after_the_work_is_named(cluster: Cluster) -> None:
    helper = {"exitCode": 64, "reason": "Error", "message": "workflowtaskresults is forbidden"}
    status = containers(main={"exitCode": 0}, wait=helper)
    run = await ended(cluster, "Error (exit code 64)", containerStatuses=status)

    assert run.state is RunState.FAILED
    assert "its container wait: Error (exit code 64): workflowtaskresults is forbidden" in run.message


@pytest.mark.parametrize(
    ("said", "want", "words"),
    [
        ("pod deleted", RunState.INTERRUPTED, "ended without an outcome: pod deleted"),
        ("OOMKilled (exit code 137)", RunState.FAILED, "ran out of memory"),
        ("Error (exit code 1)", RunState.FAILED, "step prepare failed: Error (exit code 1)"),
        (
            'Internal error occurred: failed calling webhook "mpod.kb.io": failed to call webhook: no endpoints available',
            RunState.INTERRUPTED,
            "the cluster accepted no pod of step prepare, because a webhook does not answer: ",
        ),
    ],
)
async def test_of_a_pod_that_is_gone_the_workflow_tells(
    cluster: Cluster, said: str, want: RunState, words: str
) -> None:
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    cluster.hand.end(run.identifier, said)
    cluster.hand.bodies.clear()
    await cluster.until(lambda: run.state == "FAILED", "the run fails")

    found = await cluster.find()

    assert found.state is want
    assert words in found.message
    assert "pelagos logs" not in found.message


async def test_what_was_seen_once_stays_when_the_pods_are_removed(cluster: Cluster) -> None:
    before = await ended(cluster, "x", containerStatuses=containers(main={"exitCode": 137, "reason": "OOMKilled"}))
    cluster.hand.bodies.clear()
    cluster.hand.workflows.clear()

    assert await cluster.find() == before


@pytest.mark.parametrize(
    "refusal", [UnboundError("Kubernetes", "pods is forbidden"), OutageError("Kubernetes", "no answer")]
)
async def test_without_the_right_to_look_a_failure_is_told_as_the_server_tells_it(
    cluster: Cluster, refusal: Exception
) -> None:
    cluster.shown.refusal = refusal
    run = await ended(cluster, "x", containerStatuses=containers(main={"exitCode": 1, "message": "hidden"}))

    assert run.state is RunState.FAILED
    assert "does not say why; pelagos logs frames -n reef may" in run.message


async def test_a_long_word_of_a_container_is_cut(cluster: Cluster) -> None:
    words = "Traceback " + "line\n" * 5000 + "ValueError: the nets were empty"
    run = await ended(cluster, "x", containerStatuses=containers(main={"exitCode": 1, "message": words}))

    assert len(run.message) < 1000
    assert "Traceback" in run.message
    assert "ValueError: the nets were empty" in run.message


@pytest.mark.parametrize(
    "nonsense",
    [
        {"nodes": []},
        {"nodes": {"a": 1, "b": {"type": "Pod", "phase": "Failed", "message": 7, "name": None}}},
        [],
        None,
        "x",
    ],
)
async def test_a_workflow_of_another_shape_is_as_none(cluster: Cluster, nonsense: Any) -> None:
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    render = cluster.hand.workflows[run.identifier]
    cluster.hand.workflows[run.identifier] = lambda: render() | {"status": nonsense}
    cluster.hand.end(run.identifier, "x", containerStatuses=nonsense, conditions=nonsense)
    await cluster.until(lambda: run.state == "FAILED", "the run fails")

    found = await cluster.engine.find(NAME)

    assert found is not None
    assert found.state is RunState.FAILED


PREEMPTED = (
    "Preempted to accommodate a workload (UID: 7f, JobUID: 8e) due to prioritization in the ClusterQueue; preemptor path: /all; "
    "preemptee path: /all"
)
"""How Kueue 0.17 reports a pod that it deletes: in a condition, and in an event."""


def stopped(message: str = PREEMPTED) -> dict[str, Any]:
    reason = (
        "WorkloadEvictedDueToPreempted"
        if message.startswith("Preempted")
        else "WorkloadEvictedDueToClusterQueueStopped"
    )
    return {"type": "TerminationTarget", "status": "True", "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (PREEMPTED, reasons.PREEMPTED, "step prepare was preempted in the queue reef for a more important workload: "),
        (
            PREEMPTED.replace("prioritization in the ClusterQueue", "reclamation within the cohort"),
            reasons.PREEMPTED,
            "in the queue reef for a workload of the queue that its quota belongs to: ",
        ),
        (
            PREEMPTED.replace("prioritization in the ClusterQueue", "Fair Sharing within the cohort"),
            reasons.PREEMPTED,
            "in the queue reef for a fair share among the queues of its cohort: ",
        ),
        (
            "The ClusterQueue is stopped",
            None,
            "without an outcome: WorkloadEvictedDueToClusterQueueStopped: The ClusterQueue",
        ),
    ],
)
async def test_a_pod_that_kueue_ends_is_an_interruption_with_its_words(
    cluster: Cluster, message: str, reason: Reason | None, words: str
) -> None:
    await cluster.engine.submit(make_request(tenant=Tenant(queue="reef")))
    run = cluster.runs()[0]
    await cluster.begin(run)
    metadata = cluster.hand.body(run.identifier)["metadata"]
    metadata |= {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}
    main = {"exitCode": 143, "reason": "Error"}
    disrupted = {**DELETED, "reason": "DeletionByPodGC"}
    cluster.hand.end(
        run.identifier, "pod deleted", conditions=[disrupted, stopped(message)], containerStatuses=containers(main=main)
    )
    await cluster.until(lambda: run.state == "FAILED", "the run fails")

    found = await cluster.find()

    assert (found.state, found.reason) == (RunState.INTERRUPTED, reason)
    assert words in found.message


@pytest.mark.parametrize("seen", ["being ended", "before that"])
async def test_why_kueue_ended_a_pod_is_known_when_that_is_gone(cluster: Cluster, seen: str) -> None:
    await cluster.engine.submit(make_request(tenant=Tenant(queue="reef")))
    run = cluster.runs()[0]
    await cluster.begin(run)
    pod = cluster.hand.body(run.identifier)
    pod["metadata"]["uid"] = "u1"
    if seen == "being ended":
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:30Z"
        cluster.hand.become(run.identifier, conditions=[stopped()])
    else:
        others = {"kind": "Pod", "name": pod["metadata"]["name"], "uid": "u0"}
        events = [(others, "Stopped", "of a pod of the same name"), (others | {"uid": "u1"}, "Stopped", PREEMPTED)]
        events.append((others | {"uid": "u1"}, "Killing", "Stopping container main"))
        cluster.shown.more += [
            {"kind": "Event", "metadata": {"name": "e"}, "involvedObject": about, "reason": reason, "message": message}
            for about, reason, message in events
        ]
    assert (await cluster.find()).state is RunState.RUNNING
    cluster.hand.bodies.clear()
    cluster.hand.alive[run.identifier][2].set_result(Outcome(succeeded=False, message="pod deleted"))
    await cluster.until(lambda: run.state == "FAILED", "the run fails")

    found = await cluster.find()

    assert (found.state, found.reason) == (RunState.INTERRUPTED, reasons.PREEMPTED)
    assert "step prepare was preempted in the queue reef for a more important workload: " in found.message


async def test_a_step_that_says_itself_that_it_was_preempted_was_not(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    cluster.hand.bodies.clear()
    cluster.hand.alive[run.identifier][2].set_result(Outcome(succeeded=False, message=PREEMPTED))
    await cluster.until(lambda: run.state == "FAILED", "the run fails")

    assert (await cluster.find()).reason is None


async def test_attempts_that_were_preempted_do_not_count(cluster: Cluster) -> None:
    counted = []
    for attempt in (1, 2, 3):
        await cluster.engine.submit(make_request(attempt=attempt, tenant=Tenant(queue="reef")))
        run = cluster.runs()[-1]
        await cluster.begin(run)
        ended = [stopped()] if attempt == 1 else []
        cluster.hand.end(run.identifier, "Error (exit code 143)", conditions=ended)
        await cluster.until(lambda run=run: run.state == "FAILED", "the run fails")  # type: ignore[misc]
        counted.append((await cluster.find()).attempts_with_key)

    assert counted == [1, 1, 2]
