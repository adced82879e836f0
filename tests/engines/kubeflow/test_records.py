"""Records of the server that others delete, archive or retry on its page, or that expire. Nothing runs twice."""

from __future__ import annotations

import aiohttp
import pytest

from kfp_fake_server.store import Run
from kubeflow_worlds import NAME, UID, Cluster, make_request
from pelagos.api import reasons
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.pipelines import RunName, RunState


async def ask(cluster: Cluster, method: str, path: str) -> int:
    """Send a request to the server's API as somebody else; returns the status."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{cluster.server.url}/apis/v2beta1/{path}") as answer,
    ):
        return answer.status


async def submitted(cluster: Cluster, attempt: int = 1) -> Run:
    """An attempt whose step has a pod."""
    await cluster.engine.submit(make_request(attempt=attempt))
    run = cluster.runs()[-1]
    await cluster.until(lambda: run.identifier in cluster.hand.alive, "the step has a pod")
    return run


@pytest.mark.parametrize("at_work", [True, False], ids=["running", "waiting"])
async def test_no_other_run_is_begun_while_pods_of_one_go_on_whose_record_is_gone(
    cluster: Cluster, at_work: bool
) -> None:
    run = await submitted(cluster)
    if at_work:
        cluster.hand.begin(run.identifier)
    cluster.server.faults.orphaning_deletion = True
    assert await ask(cluster, "DELETE", f"runs/{run.identifier}") == 200
    cluster.engine = cluster.new_engine()  # no state in memory is needed for it

    assert await cluster.engine.find(NAME) is None
    with pytest.raises(
        RejectedError, match=r"no longer has a record of run .* but its pod kubeflow/.* still runs.*delete workflow"
    ) as told:
        await cluster.engine.submit(make_request())

    assert told.value.reason == reasons.RUN_NOT_RECORDED
    assert cluster.runs() == []
    cluster.hand.finish(run.identifier)
    await cluster.until(lambda: not cluster.hand.alive, "its pod ends")
    assert (await cluster.engine.submit(make_request())).attempt == 1
    assert len(cluster.runs()) == 1


async def test_a_deletion_that_takes_the_pods_lets_another_begin_at_once(cluster: Cluster) -> None:
    run = await submitted(cluster)
    assert await ask(cluster, "DELETE", f"runs/{run.identifier}") == 200

    assert await cluster.engine.find(NAME) is None
    assert (await cluster.engine.submit(make_request())).attempt == 1


@pytest.mark.parametrize("refusal", [OutageError("kubernetes", "no answer"), RejectedError("kubernetes", "no right")])
async def test_without_a_look_at_pods_a_run_is_made(cluster: Cluster, refusal: Exception) -> None:
    cluster.shown.refusal = refusal

    assert (await cluster.engine.submit(make_request())).attempt == 1


async def test_pods_of_other_runs_of_the_resource_do_not_count(cluster: Cluster) -> None:
    await submitted(cluster)
    other = RunName(f"dataset-{UID}-aaaaaaaaaaaa")

    assert (await cluster.engine.submit(make_request(other))).name == other


async def test_a_record_that_expired_is_told_as_none_and_what_goes_on_stays(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.finish(cluster.runs()[0])
    other = RunName(f"dataset-{UID}-aaaaaaaaaaaa")
    await cluster.engine.submit(make_request(other))

    await cluster.server.expire()

    assert await cluster.engine.find(NAME) is None
    assert (await cluster.find(other)).state in {RunState.PENDING, RunState.RUNNING}
    assert [run.name for run in await cluster.engine.find_owned(UID)] == [other]


@pytest.mark.parametrize("state", ["waiting", "running", "finished"])
async def test_a_run_of_an_archived_experiment_is_told_as_before_and_made_no_second_time(
    cluster: Cluster, state: str
) -> None:
    run = await submitted(cluster)
    if state == "running":
        cluster.hand.begin(run.identifier)
    if state == "finished":
        await cluster.finish(run)
    before = await cluster.find()
    assert await ask(cluster, "POST", f"experiments/{run.experiment.identifier}:archive") == 200
    cluster.engine = cluster.new_engine()

    after = await cluster.find()
    again = await cluster.engine.submit(make_request())

    assert (after.state, again.attempt) == (before.state, 1)
    assert cluster.runs() == [run]


async def test_in_an_experiment_that_was_restored_the_next_attempt_is_made(cluster: Cluster) -> None:
    run = await submitted(cluster)
    await cluster.finish(run, "no")
    path = f"experiments/{run.experiment.identifier}"
    assert await ask(cluster, "POST", f"{path}:archive") == 200
    with pytest.raises(RejectedError, match="archived"):
        await cluster.engine.submit(make_request(attempt=2))

    assert await ask(cluster, "POST", f"{path}:unarchive") == 200
    assert (await cluster.engine.submit(make_request(attempt=2))).attempt == 2


async def test_an_attempt_that_is_revived_before_the_next_is_made_is_taken_for_it(cluster: Cluster) -> None:
    run = await submitted(cluster)
    await cluster.finish(run, "no")
    assert (await cluster.find()).state is RunState.FAILED
    assert await ask(cluster, "POST", f"runs/{run.identifier}:retry") == 200
    await cluster.until(lambda: run.identifier in cluster.hand.alive, "it goes on")

    again = await cluster.engine.submit(make_request(attempt=2))

    assert again.state not in {RunState.FAILED, RunState.SUCCEEDED}
    assert cluster.runs() == [run]
    await cluster.finish(run)
    assert (await cluster.find()).state is RunState.SUCCEEDED


async def test_an_attempt_that_is_revived_after_the_next_was_made_is_ended(cluster: Cluster) -> None:
    first = await submitted(cluster)
    await cluster.finish(first, "no")
    second = await submitted(cluster, attempt=2)
    assert await ask(cluster, "POST", f"runs/{first.identifier}:retry") == 200
    await cluster.until(lambda: first.identifier in cluster.hand.alive, "it goes on")

    cluster.engine = cluster.new_engine()
    assert (await cluster.find()).attempt == 2

    await cluster.until(lambda: set(cluster.hand.alive) == {second.identifier}, "the revived attempt ends")
