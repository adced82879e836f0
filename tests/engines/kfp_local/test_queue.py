"""Runs wait for capacity in order, and an interrupted one continues before those that have not begun."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.kfp_local import engine as kfp_local
from pelagos.engines.kfp_local import room
from pelagos.engines.kfp_local.room import Room, Share
from pelagos.ports.pipelines import RunName, RunRequest, RunResources, RunState
from pelagos.ports.placement import Placement
from pipeline_worlds import KfpLocalWorld, reach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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
        f"of {flow}, 1 at a time run on this machine; {before} before it in the queue" for before in (0, 1)
    ]


@pytest.mark.parametrize("restarted", [False, True], ids=["the run alone died", "the operator died, too"])
async def test_an_interrupted_run_goes_on_before_queued_ones(world: KfpLocalWorld, restarted: bool) -> None:
    for name in (FIRST, SECOND, THIRD):
        await world.engine.submit(world.request(name))
    await world.interrupt(FIRST)
    if restarted:
        await world.restart_engine()
    # Whichever comes first: the others wait until the interrupted run is submitted again.
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
    await world.begin(SECOND)  # the place of the crashed run is free
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
    await world.begin(SECOND)  # without any call of the engine


async def test_a_place_is_not_kept_for_a_run_that_is_deleted(world: KfpLocalWorld) -> None:
    for name in (FIRST, SECOND):
        await world.engine.submit(world.request(name))
    await world.interrupt(FIRST)
    await reach(world, FIRST, RunState.INTERRUPTED)
    assert await state(world, SECOND) is RunState.PENDING
    await world.engine.delete(FIRST)
    await world.begin(SECOND)


@pytest.fixture
async def machine(tmp_path: Path, compiled: Path) -> AsyncIterator[KfpLocalWorld]:
    """The engine on a machine where trainings share four cores and run while there is room."""
    real = KfpLocalWorld(tmp_path, compiled, capacity=0, cores=4)
    yield real
    await real.close()


async def submit(world: KfpLocalWorld, name: RunName, cores: int) -> None:
    await world.engine.submit(replace(world.request(name), flow="training", resources=RunResources(cpu=cores)))


async def test_trainings_share_the_cores_of_a_machine(machine: KfpLocalWorld) -> None:
    for name, cores in ((FIRST, 3), (SECOND, 2), (THIRD, 1)):
        await submit(machine, name, cores)
    await machine.begin(FIRST)

    second, third = [await machine.engine.find(name) for name in (SECOND, THIRD)]

    # The third would fit, but none overtakes: otherwise a stream of small runs could keep the second waiting forever.
    uses = "runs of training use 3 of the 4 that they share on this machine"
    assert second is not None
    assert third is not None
    assert second.message == f"it asks for 2 cores, and {uses}; 0 before it in the queue"
    assert third.message == "runs start in order; 1 before it in the queue"
    await machine.succeed(FIRST)
    for name in (SECOND, THIRD):
        await machine.begin(name)


async def test_cores_of_running_trainings_are_known_to_a_new_operator(machine: KfpLocalWorld) -> None:
    for name, cores in ((FIRST, 3), (SECOND, 2)):
        await submit(machine, name, cores)
    await machine.begin(FIRST)

    await machine.restart_engine()

    assert await state(machine, SECOND) is RunState.PENDING


async def test_a_training_that_asks_for_more_than_there_is_has_the_machine_alone(machine: KfpLocalWorld) -> None:
    for name, cores in ((FIRST, 1), (SECOND, 64), (THIRD, 1)):
        await submit(machine, name, cores)
    await machine.begin(FIRST)
    assert await state(machine, SECOND) is RunState.PENDING

    await machine.succeed(FIRST)

    await machine.begin(SECOND)
    assert await state(machine, THIRD) is RunState.PENDING


@pytest.mark.parametrize(
    ("having", "asked", "taken", "fits"),
    [
        (Room(cores=4), Share(2), [Share(2)], True),
        (Room(cores=4), Share(3), [Share(2)], False),
        (Room(runs=1, cores=4), Share(1), [Share(1)], False),
        (Room(), Share(64), [Share(64)], True),
        (Room(cores=16), Share(1, gpus=1), [Share(1)], True),
        (Room(cores=16), Share(1, gpus=1), [Share(1, gpus=1)], False),
        (Room(cores=16, has_gpus=True), Share(1), [Share(1)], False),
        (Room(cores=16, has_gpus=True), Share(1), [], True),
        (Room(memory=8), Share(1, memory=4), [Share(1, memory=4)], True),
        (Room(memory=8), Share(1, memory=4), [Share(1, memory=5)], False),
    ],
)
def test_room_is_counted_in_runs_cores_gpus_and_memory(
    having: Room, asked: Share, taken: list[Share], fits: bool
) -> None:
    assert (having.obstacle("training", asked, taken) is None) is fits


def test_a_training_that_does_not_say_what_memory_it_needs_counts_as_a_usual_one() -> None:
    stated = RunRequest(RunName("run"), "training", {}, resources=RunResources(2, Placement(memory="1Gi")))

    assert room.share(stated) == Share(2, memory=1024**3)
    assert room.share(replace(stated, resources=RunResources(2))) == Share(2, memory=room.USUAL_MEMORY)


@pytest.mark.parametrize(("device", "found"), [("nvidia0", True), ("dxg", True), ("kfd", True), ("nvram", False)])
def test_gpus_are_known_by_their_devices(
    device: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / device).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert room.has_gpus(tmp_path) is found

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not room.has_gpus(tmp_path), "hidden from steps, too"
