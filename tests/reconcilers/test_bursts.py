"""Many new resources at once: each is initialized, written few times, and submitted once, whatever happens in the meantime."""

from __future__ import annotations

import pytest

import builders
import simulation
from pelagos.api import kinds
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import PipelineRun, RunRequest
from simulation import Fault, Simulation

SIZE = 4


def burst(world: Simulation, size: int = SIZE) -> list[Key]:
    return [world.create(kinds.DATASET, f"plankton-{number}", builders.DATASET) for number in range(size)]


def become_ready(world: Simulation, fault: Fault | None = None) -> tuple[str, ...]:
    """With one worker, all but the last Dataset have others before them. Returns the calls that the operator made."""
    burst(world)
    life = world.start(fault, workers=1)
    world.run_until(lambda: life.dead or world.all_current())
    calls = tuple(life.calls)
    if life.dead:
        world.restart()
        world.run_until(world.all_current)
    return calls


def test_who_was_initialized_is_told_what_became_of_the_run_and_not_that_it_is_being_submitted(
    world: Simulation,
) -> None:
    *initialized, last = burst(world)
    world.start(workers=1)
    world.run_until(world.all_current)

    assert {tuple(world.auditor.reasons(key)) for key in initialized} == {
        ("Accepted", "Queued", "Running", "VersionReady")
    }
    assert world.auditor.reasons(last)[0] == "Submitting"


def test_a_run_that_ends_at_once_costs_three_writes_in_a_burst(
    world: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = world.pipelines.submit

    async def submit_and_work(request: RunRequest) -> PipelineRun:
        await submit(request)
        world.data_plane.finish(request.name)
        return world.pipelines.runs[request.name].run

    monkeypatch.setattr(world.pipelines, "submit", submit_and_work)
    burst(world)
    world.start(workers=1)
    world.run_until(world.all_current)

    assert (world.cluster.finalizer_writes, world.cluster.status_patches) == (SIZE, 2 * SIZE)
    assert [event.reason for event in world.cluster.events].count("VersionReady") == SIZE


def test_a_run_that_cannot_be_looked_at_right_after_is_waited_for_and_not_submitted_again(
    world: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = world.pipelines.submit

    async def submit_and_vanish(request: RunRequest) -> PipelineRun:
        run = await submit(request)
        world.pipelines.outage = True
        world.event_loop.call_later(1, setattr, world.pipelines, "outage", False)
        return run

    monkeypatch.setattr(world.pipelines, "submit", submit_and_vanish)
    first, *_ = burst(world)
    world.start(workers=1)
    world.run_until(world.all_current)

    assert world.auditor.reasons(first)[:2] == ["Accepted", "SystemUnavailable"]
    assert world.pipelines.attempts_begun == SIZE


def test_the_inputs_of_an_initialized_dataset_are_known_so_that_a_change_ends_the_run(world: Simulation) -> None:
    world.data_plane.seconds = 30
    burst(world)
    world.start(workers=1)
    world.run(3)
    world.volumes.put("samples/frames/0.png", "changed")

    world.run_until(world.all_current)

    states = sorted(known.run.state.value for known in world.pipelines.runs.values())
    assert states == ["Canceled"] * SIZE + ["Succeeded"] * SIZE


@pytest.mark.parametrize("crashes", [True, False], ids=["crash", "lost-connection"])
def test_a_fault_at_any_call_of_a_burst_is_harmless(crashes: bool) -> None:
    with simulation.simulation() as world:
        calls = become_ready(world)
    assert len(calls) > 10 * SIZE

    for fault in simulation.faults(calls, crashes=crashes):
        with simulation.simulation() as world:
            become_ready(world, fault)
            world.run(30)
            assert world.pipelines.attempts_begun == SIZE, fault
