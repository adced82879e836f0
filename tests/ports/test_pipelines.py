"""The guarantees for the operator, with every pipeline engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import RunName, RunState
from pipeline_worlds import reach

if TYPE_CHECKING:
    from pipeline_worlds import World

NAME = RunName("prepare-1")


async def test_an_unknown_run_is_none_and_ending_it_is_no_error(world: World) -> None:
    assert await world.engine.find(NAME) is None
    await world.engine.cancel(NAME)
    await world.engine.delete(NAME)
    assert await world.engine.find(NAME) is None


async def test_a_run_succeeds(world: World) -> None:
    submitted = await world.engine.submit(world.request(NAME))
    assert submitted.state in {RunState.PENDING, RunState.RUNNING}
    assert (submitted.attempt, submitted.attempts_with_key, submitted.finished_at) == (1, 1, None)
    await world.succeed(NAME)

    run = await reach(world, NAME, RunState.SUCCEEDED)

    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.started_at <= run.finished_at
    assert run.url


async def test_a_step_that_raises_fails_the_run_with_its_words(world: World) -> None:
    await world.engine.submit(world.request(NAME))
    await world.fail(NAME, "the nets were empty")

    run = await reach(world, NAME, RunState.FAILED)

    assert "the nets were empty" in run.message
    assert run.finished_at is not None


async def test_a_run_whose_processes_are_killed_is_interrupted(world: World) -> None:
    await world.engine.submit(world.request(NAME))
    await world.interrupt(NAME)

    run = await reach(world, NAME, RunState.INTERRUPTED)

    assert "ended without an outcome" in run.message
    assert run.finished_at is not None


async def test_submitting_again_adopts_the_run(world: World) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    await world.engine.submit(request)
    await world.begin(NAME)
    await world.engine.submit(replace(request, attempt=2))
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    run = await world.engine.submit(request)

    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 1)
    assert world.begun(NAME) == 1


async def test_two_submissions_at_once_make_one_run(world: World) -> None:
    request = world.request(NAME)
    await asyncio.gather(*(world.engine.submit(request) for _ in range(5)))
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    assert world.begun(NAME) == 1


@pytest.mark.parametrize("end", ["fail", "interrupt", "cancel"])
async def test_a_higher_attempt_starts_an_unsuccessful_run_again(world: World, end: str) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    if end == "fail":
        await world.fail(NAME, "once")
    elif end == "interrupt":
        await world.interrupt(NAME)
    else:
        await world.begin(NAME)
        await world.engine.cancel(NAME)
    await reach(world, NAME, RunState.FAILED, RunState.INTERRUPTED, RunState.CANCELED)

    again = await world.engine.submit(replace(request, attempt=2))
    assert (again.attempt, again.attempts_with_key, again.finished_at) == (2, 2, None)
    assert "once" not in again.message
    await world.succeed(NAME)
    run = await reach(world, NAME, RunState.SUCCEEDED)

    assert (run.attempt, world.begun(NAME)) == (2, 2)


async def test_a_higher_attempt_starts_a_successful_run_again_too_since_its_result_may_have_been_lost(
    world: World,
) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    await world.engine.submit(replace(request, attempt=2))
    await world.succeed(NAME)
    run = await reach(world, NAME, RunState.SUCCEEDED)

    assert (run.attempt, run.attempts_with_key, world.begun(NAME)) == (2, 2, 2)


async def test_a_new_retry_key_counts_attempts_anew(world: World) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    await world.fail(NAME, "once")
    await reach(world, NAME, RunState.FAILED)

    run = await world.engine.submit(replace(request, attempt=2, retry_key="asked"))

    assert (run.attempt, run.retry_key, run.attempts_with_key) == (2, "asked", 1)


async def test_a_finished_run_stays_as_it_is_without_a_higher_attempt(world: World) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    await world.fail(NAME, "once")
    failed = await reach(world, NAME, RunState.FAILED)

    assert await world.engine.submit(replace(request, retry_key="asked")) == failed
    await world.engine.cancel(NAME)
    assert await world.engine.find(NAME) == failed


async def test_canceling_ends_a_run_and_keeps_its_record(world: World) -> None:
    await world.engine.submit(world.request(NAME))
    await world.begin(NAME)

    await world.engine.cancel(NAME)

    run = await world.engine.find(NAME)
    assert run is not None
    assert run.state is RunState.CANCELED
    assert run.finished_at is not None


async def test_deleting_forgets_a_run_and_a_later_one_begins_at_the_first_attempt(world: World) -> None:
    await world.engine.submit(world.request(NAME))
    await world.begin(NAME)
    await world.engine.delete(NAME)
    assert await world.engine.find(NAME) is None

    run = await world.engine.submit(world.request(NAME))
    assert run.attempt == 1
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)


async def test_runs_beyond_capacity_wait_and_begin_in_the_order_of_submission(world: World) -> None:
    names = [f"prepare-{number}" for number in (4, 2, 3, 1)]
    for name in names:
        await world.engine.submit(world.request(name))
    for name in names[:2]:
        await reach(world, name, RunState.RUNNING)
    for name in names[2:]:
        waiting = await world.engine.find(RunName(name))
        assert waiting is not None
        assert (waiting.state, waiting.started_at) == (RunState.PENDING, None)

    await world.succeed(names[1])

    await reach(world, names[2], RunState.RUNNING)
    last = await world.engine.find(RunName(names[3]))
    assert last is not None
    assert last.state is RunState.PENDING


async def test_flows_do_not_take_each_others_capacity(world: World) -> None:
    for name in ("train-1", "train-2", "train-3"):
        await world.engine.submit(world.request(name, "training"))
    await world.engine.submit(world.request(NAME))

    await reach(world, NAME, RunState.RUNNING)


async def test_a_waiting_run_that_is_canceled_never_begins(world: World) -> None:
    for name in ("prepare-1", "prepare-2", "prepare-3"):
        await world.engine.submit(world.request(name))
    await world.engine.cancel(RunName("prepare-3"))
    await world.succeed("prepare-1")
    await world.succeed("prepare-2")
    await reach(world, "prepare-2", RunState.SUCCEEDED)

    await reach(world, "prepare-3", RunState.CANCELED)
    assert world.begun("prepare-3") == 0


async def test_a_run_goes_on_while_the_operator_is_replaced(world: World) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    await world.begin(NAME)
    await world.restart_engine()
    await reach(world, NAME, RunState.RUNNING)

    await world.engine.submit(request)
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    assert world.begun(NAME) == 1


async def test_waiting_runs_are_adopted_by_the_next_operator(world: World) -> None:
    names = ["prepare-1", "prepare-2", "prepare-3"]
    for name in names:
        await world.engine.submit(world.request(name))
    await world.restart_engine()
    for name in names:
        await world.succeed(name)
        await reach(world, name, RunState.SUCCEEDED)


async def test_runs_are_found_by_the_resource_that_owns_them(world: World) -> None:
    for number in (1, 2):
        labels = {"pelagos.dev/uid": "uid-1"}
        await world.engine.submit(replace(world.request(f"prepare-{number}"), labels=labels))
    await world.engine.submit(replace(world.request("prepare-3"), labels={"pelagos.dev/uid": "uid-2"}))
    await world.succeed("prepare-1")
    await reach(world, "prepare-1", RunState.SUCCEEDED)

    owned = await world.engine.find_owned("uid-1")

    assert {run.name for run in owned} == {"prepare-1", "prepare-2"}
    assert await world.engine.find_owned("uid-3") == ()


async def test_runs_of_all_resources_are_listed_with_their_owners(world: World) -> None:
    uids = [f"00000000-0000-4000-8000-{number:012x}" for number in (1, 2)]
    names = {f"dataset-{uid}-{'a' * 12}": uid for uid in uids}
    for name, uid in names.items():
        labels = {"pelagos.dev/uid": uid, "pelagos.dev/resource": "dataset/default/frames"}
        await world.engine.submit(replace(world.request(name), labels=labels, namespace="default"))

    found = {owned.name: owned for owned in await world.engine.owned({"default"})}

    assert {name: owned.uid for name, owned in found.items()} == names
    assert {owned.namespace for owned in found.values()} == {"default"}
    assert all(owned.made_at is not None for owned in found.values())
    for name in found:
        await world.engine.cancel(RunName(name))
        await world.engine.delete(RunName(name))
    assert await world.engine.owned({"default"}) == ()


async def test_a_flow_that_was_not_compiled_is_rejected(world: World) -> None:
    with pytest.raises(RejectedError, match="there is no"):
        await world.engine.submit(world.request(NAME, "fishing"))  # type: ignore[arg-type]
