"""A run that lost its pod or Workflow would be running forever for its server: the loss is noticed within minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeflow_worlds import NAME, Cluster, make_request
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import PipelineRun, RunState


async def begun(cluster: Cluster, *, at_work: bool = True) -> str:
    """A run whose step is running or waiting."""
    await cluster.engine.submit(make_request())
    (run,) = cluster.runs()
    await cluster.until(lambda: run.identifier in cluster.hand.alive, "the step has a pod")
    if at_work:
        cluster.hand.begin(run.identifier)
    return run.identifier


async def after(cluster: Cluster, *minutes: float) -> PipelineRun:
    """The run as reported after these minutes, observed at each of them."""
    found = None
    for passed in minutes:
        cluster.later(minutes=passed)
        found = await cluster.engine.find(NAME)
    assert found is not None
    return found


@pytest.mark.parametrize("at_work", [True, False])
async def test_a_workflow_that_somebody_deleted_is_noticed_whether_its_step_ran_or_waited(
    cluster: Cluster, at_work: bool
) -> None:
    await begun(cluster, at_work=at_work)
    cluster.hand.workflows.clear()
    cluster.hand.bodies.clear()

    assert (await after(cluster, 0, 1)).state is not RunState.INTERRUPTED
    run = await after(cluster, 2, 4)

    assert run.state is RunState.INTERRUPTED
    assert "Workflow no longer exists" in run.message


async def test_a_pod_that_vanished_and_left_its_workflow_running_is_noticed(cluster: Cluster) -> None:
    identifier = await begun(cluster)
    cluster.hand.lose(identifier)

    run = await after(cluster, 0, 1, 2, 4)

    assert run.state is RunState.INTERRUPTED
    assert "the pod of step prepare ended without an outcome" in run.message


async def test_steps_that_have_all_ended_in_a_run_that_goes_on_are_a_fault(cluster: Cluster) -> None:
    identifier = await begun(cluster)
    cluster.hand.become(identifier, phase="Succeeded")

    run = await after(cluster, 0, 1, 2, 4)

    assert run.state is RunState.FAILED
    assert "workflowtaskresults" in run.message


@pytest.mark.parametrize(
    ("main", "phase", "state"),
    [
        ({"exitCode": 0}, "Succeeded", RunState.FAILED),
        ({"exitCode": 1, "reason": "Error"}, "Failed", RunState.FAILED),
        ({"exitCode": 143, "reason": "Error"}, "Failed", RunState.INTERRUPTED),
    ],
)
async def test_a_workflow_that_has_ended_unnoticed_is_told_as_it_ended(
    cluster: Cluster, main: dict[str, Any], phase: str, state: RunState
) -> None:
    identifier = await begun(cluster)
    cluster.hand.become(identifier, phase=phase, containerStatuses=[{"name": "main", "state": {"terminated": main}}])
    render = cluster.hand.workflows[identifier]
    cluster.hand.workflows[identifier] = lambda: render() | {"status": {"phase": phase}}

    run = await after(cluster, 0, 1, 2, 4)

    assert run.state is state
    assert f"Workflow has ended ({phase}), and the server has not noticed" in run.message
    assert "workflowtaskresults" not in run.message


@pytest.mark.parametrize(("minutes", "is_told"), [(1, False), (10, True)])
async def test_a_pod_that_does_not_end_since_its_node_is_lost_is_told_and_not_replaced(
    cluster: Cluster, minutes: int, is_told: bool
) -> None:
    identifier = await begun(cluster)
    body = cluster.hand.body(identifier)
    told = datetime.now(UTC) - timedelta(minutes=minutes)
    body["metadata"] |= {"deletionTimestamp": told.isoformat(), "deletionGracePeriodSeconds": 30}
    body["spec"]["nodeName"] = "gpu-3"

    run = await after(cluster, 0)

    assert run.state is RunState.RUNNING
    assert ("gpu-3 may be lost" in run.message) == is_told


async def test_what_seems_lost_is_said_before_it_counts_and_not_at_the_first_look(cluster: Cluster) -> None:
    await begun(cluster)
    cluster.hand.workflows.clear()
    cluster.hand.bodies.clear()

    assert (await after(cluster, 0)).message == ""
    run = await after(cluster, 1)

    assert run.state is RunState.RUNNING
    assert "it is not known whether it still runs: the run's Argo Workflow no longer exists" in run.message


@pytest.mark.parametrize("ended", ["workflow", "steps"])
async def test_after_a_restart_a_run_that_was_lost_before_is_not_called_running_again(
    cluster: Cluster, ended: str
) -> None:
    identifier = await begun(cluster)
    long_ago = (datetime.now(UTC) - timedelta(minutes=30)).isoformat(timespec="seconds")
    main = {"exitCode": 0, "finishedAt": long_ago}
    state = {"phase": "Succeeded", "containerStatuses": [{"name": "main", "state": {"terminated": main}}]}
    cluster.hand.become(identifier, **state)
    if ended == "workflow":
        render = cluster.hand.workflows[identifier]
        told = {"phase": "Failed", "finishedAt": long_ago}
        cluster.hand.workflows[identifier] = lambda: render() | {"status": told}
    cluster.engine = cluster.new_engine()

    first = await after(cluster, 0)
    then = await after(cluster, 0.5)

    assert (first.state, then.state) == (RunState.RUNNING, RunState.FAILED)
    assert first.message.startswith("it is not known whether it still runs: ")
    assert then.message in first.message


async def test_a_step_that_has_just_ended_is_not_suspected(cluster: Cluster) -> None:
    identifier = await begun(cluster)
    main = {"exitCode": 0, "finishedAt": datetime.now(UTC).isoformat()}
    cluster.hand.become(
        identifier, phase="Succeeded", containerStatuses=[{"name": "main", "state": {"terminated": main}}]
    )

    run = await after(cluster, 0, 0.2)

    assert (run.state, run.message) == (RunState.RUNNING, "")


async def test_what_cannot_be_looked_at_is_not_lost(cluster: Cluster) -> None:
    await begun(cluster)
    cluster.shown.missing.add("workflows")
    cluster.hand.bodies.clear()

    assert (await after(cluster, 0, 1, 2, 4, 8)).state is RunState.RUNNING


async def test_a_loss_that_was_none_after_all_is_forgotten(cluster: Cluster) -> None:
    identifier = await begun(cluster)
    body = cluster.hand.body(identifier)
    cluster.hand.lose(identifier)
    await after(cluster, 0, 1)
    cluster.hand.bodies[body["metadata"]["name"]] = body
    await after(cluster, 2)
    cluster.hand.lose(identifier)

    assert (await after(cluster, 3, 4)).state is RunState.RUNNING


async def test_an_archived_experiment_is_told_with_what_to_do(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.finish(cluster.runs()[0], "no")
    for experiment in cluster.server.store.experiments.values():
        experiment.storage_state = "ARCHIVED"

    with pytest.raises(RejectedError, match=r"archived.*Restore it on the page of Kubeflow Pipelines"):
        await cluster.engine.submit(make_request(attempt=2))
