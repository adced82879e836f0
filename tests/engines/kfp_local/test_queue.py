"""Runs wait for capacity in order, and one that was interrupted goes on before those that have not begun."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.kfp_local import engine as kfp_local
from pelagos.ports.pipelines import RunName, RunState
from pipeline_worlds import reach

if TYPE_CHECKING:
    from pipeline_worlds import KfpLocalWorld

FIRST, SECOND, THIRD = (RunName(name) for name in ("first", "second", "third"))


async def state(world: KfpLocalWorld, name: RunName) -> RunState:
    run = await world.engine.find(name)
    assert run is not None
    return run.state


async def test_a_run_says_how_many_that_wait_are_before_it(world: KfpLocalWorld) -> None:
    for name in (FIRST, SECOND, THIRD):
        await world.engine.submit(world.request(name))
    await world.begin(FIRST)

    waiting = [await world.engine.find(name) for name in (SECOND, THIRD)]

    flow = world.request(FIRST).flow
    assert [run.message for run in waiting if run] == [
        f"of {flow}, 1 at a time run on this machine; {before} that wait are before it" for before in (0, 1)
    ]


@pytest.mark.parametrize("restarted", [False, True], ids=["the run alone died", "the operator died, too"])
async def test_an_interrupted_run_goes_on_before_queued_ones(world: KfpLocalWorld, restarted: bool) -> None:
    for name in (FIRST, SECOND, THIRD):
        await world.engine.submit(world.request(name))
    await world.interrupt(FIRST)
    if restarted:
        await world.restart_engine()
    # Whichever is looked at first: the others wait for what was interrupted to be asked for again.
    assert await state(world, THIRD) is RunState.PENDING
    await reach(world, FIRST, RunState.INTERRUPTED)
    assert await state(world, SECOND) is RunState.PENDING

    await world.engine.submit(replace(world.request(FIRST), attempt=2))
    await world.begin(FIRST)
    assert await state(world, SECOND) is RunState.PENDING
    await world.succeed(FIRST)
    await reach(world, SECOND, RunState.RUNNING)
    assert await state(world, THIRD) is RunState.PENDING


async def test_a_run_that_has_begun_before_goes_on_before_older_ones(world: KfpLocalWorld) -> None:
    await world.engine.submit(world.request(FIRST))
    await world.fail(FIRST, "a crash")
    for name in (SECOND, THIRD):
        await world.engine.submit(world.request(name))
    await world.begin(SECOND)  # the place of what crashed is free
    await world.engine.submit(replace(world.request(FIRST), attempt=2))
    await world.succeed(SECOND)
    await reach(world, FIRST, RunState.RUNNING)
    assert await state(world, THIRD) is RunState.PENDING


async def test_a_place_is_not_kept_for_a_run_that_does_not_come_back(
    world: KfpLocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kfp_local, "HELD_SECONDS", 0.2)
    for name in (FIRST, SECOND):
        await world.engine.submit(world.request(name))
    await world.interrupt(FIRST)
    await world.begin(SECOND)  # without anybody looking


async def test_a_place_is_not_kept_for_a_run_that_is_deleted(world: KfpLocalWorld) -> None:
    for name in (FIRST, SECOND):
        await world.engine.submit(world.request(name))
    await world.interrupt(FIRST)
    await reach(world, FIRST, RunState.INTERRUPTED)
    assert await state(world, SECOND) is RunState.PENDING
    await world.engine.delete(FIRST)
    await world.begin(SECOND)
