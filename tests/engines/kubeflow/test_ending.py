"""A canceled or deleted run has really ended, or the operator reports that it has not."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest

from kubeflow_worlds import NAME, UID, Cluster, make_request
from pelagos.engines.kubeflow.ending import Timeouts
from pelagos.engines.kubeflow.engine import Kubeflow
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.ports.errors import OutageError, RejectedError, UnfinishedError
from pelagos.ports.pipelines import RunName, RunState


async def test_canceling_waits_until_the_steps_have_ended(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])
    cluster.hand.slow_end = 0.3

    await cluster.engine.cancel(NAME)

    assert cluster.hand.alive == {}
    assert (await cluster.find()).state is RunState.CANCELED


async def test_a_step_that_ends_too_slowly_is_an_outage_and_later_an_end(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])
    cluster.hand.slow_end = 1.5

    with pytest.raises(UnfinishedError, match="is being ended"):
        await cluster.engine.cancel(NAME)
    going = await cluster.find()
    assert (going.state, going.message) == (RunState.RUNNING, "the run is being ended")
    await cluster.engine.cancel(NAME)

    assert (await cluster.find()).state is RunState.CANCELED


async def test_an_ended_run_that_the_server_calls_failed_is_canceled(cluster: Cluster) -> None:
    cluster.server.faults.canceled_is_failed = True
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])

    await cluster.engine.cancel(NAME)

    run = await cluster.find()
    assert (run.state, run.message) == (RunState.CANCELED, "the run was canceled")


async def test_a_run_whose_workflow_is_gone_is_given_up_after_a_while(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])
    cluster.server.faults.workflows_deleted = True

    begun = time.monotonic()
    while (await cluster.find()).state is RunState.RUNNING:
        with suppress(OutageError):
            await cluster.engine.cancel(NAME)
    run = await cluster.find()

    assert 3 <= time.monotonic() - begun < 60
    assert run.state is RunState.CANCELED
    assert "did not confirm" in run.message
    assert run.finished_at is not None
    await cluster.engine.delete(NAME)
    assert cluster.runs() == []


async def test_a_run_that_was_silent_for_long_is_ended_without_waiting(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])
    cluster.server.faults.frozen = True
    cluster.later(days=2)
    silent = await cluster.engine.find(NAME)
    assert silent is not None
    assert silent.state is RunState.INTERRUPTED

    await cluster.engine.delete(NAME)

    assert cluster.hand.alive == {}
    assert cluster.runs() == []


async def test_a_silent_server_is_believed_again_when_it_speaks(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])
    cluster.server.faults.frozen = True
    assert (await cluster.find()).state is RunState.RUNNING
    await cluster.finish(cluster.runs()[0])
    assert (await cluster.find()).state is RunState.RUNNING

    cluster.server.faults.frozen = False

    assert (await cluster.find()).state is RunState.SUCCEEDED


async def test_a_deletion_that_did_nothing_is_an_outage(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    cluster.server.faults.lying_deletion = True

    with pytest.raises(OutageError, match="still has it"):
        await cluster.engine.delete(NAME)

    cluster.server.faults.lying_deletion = False
    await cluster.engine.delete(NAME)
    assert cluster.runs() == []


async def test_deleting_ends_the_steps_first_and_takes_all_attempts_and_the_experiment(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.finish(cluster.runs()[0], "no")
    await cluster.engine.submit(make_request(attempt=2))
    await cluster.begin(cluster.runs()[1])

    await cluster.engine.delete(NAME)

    assert cluster.hand.alive == {}
    assert cluster.runs() == []
    assert cluster.server.store.experiments == {}
    assert await cluster.engine.find_owned(UID) == ()


async def test_a_deletion_that_forgets_the_pods_leaves_none_since_they_were_ended_before(cluster: Cluster) -> None:
    cluster.server.faults.orphaning_deletion = True
    await cluster.engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])

    await cluster.engine.delete(NAME)

    assert cluster.hand.alive == {}


async def test_deleting_one_run_leaves_the_others_of_its_resource(cluster: Cluster) -> None:
    other = RunName(f"dataset-{UID}-ba9876543210")
    await cluster.engine.submit(make_request())
    await cluster.engine.submit(make_request(other))

    await cluster.engine.delete(NAME)

    assert {run.name for run in await cluster.engine.find_owned(UID)} == {other}


async def test_the_end_of_a_run_that_ends_at_that_moment_is_no_error(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    terminate = cluster.engine._rest.terminate_run

    async def terminate_too_late(identifier: str) -> None:
        cluster.hand.finish(run.identifier)
        await cluster.until(lambda: run.state == "SUCCEEDED")
        await terminate(identifier)

    cluster.engine._rest.terminate_run = terminate_too_late  # type: ignore[method-assign]
    await cluster.engine.cancel(NAME)

    assert (await cluster.find()).state is RunState.SUCCEEDED


async def test_a_run_that_failed_by_itself_just_before_its_end_was_asked_for_is_failed(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    run = cluster.runs()[0]
    await cluster.begin(run)
    terminate = cluster.engine._rest.terminate_run

    async def terminate_too_late(identifier: str) -> None:
        cluster.hand.finish(run.identifier, "ValueError: the nets were empty")
        await cluster.until(lambda: run.state == "FAILED")
        await terminate(identifier)

    cluster.engine._rest.terminate_run = terminate_too_late  # type: ignore[method-assign]
    await cluster.engine.cancel(NAME)

    found = await cluster.find()
    assert (found.state, "the nets were empty" in found.message) == (RunState.FAILED, True)


async def test_ends_that_take_long_hold_nobody_up_and_are_seen_later(cluster: Cluster) -> None:
    patient = replace(cluster.site, timeouts=replace(Timeouts(), poll=0.02))
    engine = Kubeflow(KubeflowRest(cluster.server.url), patient, clock=cluster.clock)
    await engine.submit(make_request())
    await cluster.begin(cluster.runs()[0])
    cluster.hand.slow_end = 2.5

    with pytest.raises(UnfinishedError, match="is being ended"):
        await engine.delete(NAME)
    assert cluster.hand.alive != {}, "it does not wait for the end"

    await cluster.until(lambda: cluster.hand.alive == {}, "the step ends")
    await engine.delete(NAME)
    assert cluster.runs() == []


async def test_a_refusal_to_end_a_run_is_reported(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())

    async def refuse(identifier: str) -> None:
        del identifier
        raise RejectedError("Kubeflow Pipelines", "HTTP 400 not today")

    cluster.engine._rest.terminate_run = refuse  # type: ignore[method-assign]
    with pytest.raises(RejectedError, match="not today"):
        await cluster.engine.cancel(NAME)


async def test_nothing_is_kept_in_memory_of_a_run_that_was_deleted(cluster: Cluster) -> None:
    engine = cluster.engine
    await engine.submit(make_request())
    await engine.delete(NAME)

    places, endings = engine._places, engine._endings
    kept = (engine._latest, places._owners, places._experiments, endings._asked, endings._accepted, endings._given_up)
    assert not any((*kept, engine._locks))
