"""The clock jumps by hours in either direction: no pause grows, no deadline is missed, and none takes effect too early."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from pelagos.ports.pipelines import RunState
from simulation import DETECTOR, SERVICE, Simulation, apply_samples, simulation

HOURS = [-24 * 365, -30, 30, 24 * 365]


@pytest.fixture
def world() -> Iterator[Simulation]:
    with simulation() as made:
        made.start()
        yield made


def training(world: Simulation, **changes: object) -> None:
    """Start a training that runs until ``halted`` is false."""
    apply_samples(world, training=changes)
    world.run_until(lambda: states(world) == [RunState.RUNNING])
    world.data_plane.halted = True
    world.run(2)


def states(world: Simulation) -> list[RunState]:
    """States of the runs of trainings."""
    return [known.run.state for known in world.pipelines.runs.values() if known.request.flow == "training"]


@pytest.mark.parametrize("hours", HOURS)
def test_a_training_is_ended_by_its_deadline_and_not_by_the_clock(world: Simulation, hours: int) -> None:
    training(world, deadline="10m")

    world.wrong = timedelta(hours=hours)
    world.run(9 * 60)
    assert states(world) == [RunState.RUNNING]
    world.run(60)

    assert states(world) == [RunState.CANCELED]
    assert world.ready(DETECTOR)["reason"] == "DeadlineExceeded"
    world.run(10 * 60)
    assert (states(world), world.pipelines.attempts_begun) == ([RunState.CANCELED], 2)


PROMPTLY = 5.0
"""Seconds within which a run is canceled; an engine on one machine needs up to 3 more until its last process has ended."""


def test_a_training_at_its_deadline_is_ended_promptly(world: Simulation) -> None:
    training(world, deadline="10m")
    (run,) = (known.run for known in world.pipelines.runs.values() if known.request.flow == "training")
    assert run.started_at is not None

    world.run_until(lambda: states(world) == [RunState.CANCELED], within=11 * 60)

    late = world.clock.now() - run.started_at - timedelta(minutes=10)
    assert timedelta() <= late <= timedelta(seconds=PROMPTLY)


def test_a_training_that_is_suspended_is_ended_promptly(world: Simulation) -> None:
    training(world)
    found = world.cluster.get(DETECTOR)
    assert found is not None

    world.cluster.edit(DETECTOR, {**found.spec, "suspend": True})
    world.run_until(lambda: states(world) == [RunState.CANCELED], within=PROMPTLY)


def test_a_clock_that_was_set_back_while_nobody_looked_gives_one_more_deadline_at_most(world: Simulation) -> None:
    training(world, deadline="10m")
    world.stop()

    world.wrong = timedelta(hours=-30)
    world.start()
    world.run(9 * 60)
    assert states(world) == [RunState.RUNNING]
    world.run(2 * 60)

    assert world.ready(DETECTOR)["reason"] == "DeadlineExceeded"


def test_a_deadline_holds_over_restarts_of_the_operator(world: Simulation) -> None:
    training(world, deadline="10m")

    for _ in range(5):
        world.run(2 * 60)
        world.restart()
    world.run(30)

    assert world.ready(DETECTOR)["reason"] == "DeadlineExceeded"


@pytest.mark.parametrize("hours", HOURS)
def test_an_interrupted_run_is_started_again_after_its_pause(world: Simulation, hours: int) -> None:
    training(world)
    name = next(name for name, known in world.pipelines.runs.items() if known.request.flow == "training")
    world.pipelines.interrupt(name)
    world.run(0.2)

    world.wrong = timedelta(hours=hours)
    world.run(3)

    assert world.pipelines.runs[name].run.attempt == 2


@pytest.mark.parametrize("hours", HOURS)
def test_a_dead_server_is_started_again_after_its_pause(world: Simulation, hours: int) -> None:
    training(world)
    world.data_plane.halted = False
    world.run_until(world.all_current)
    found = world.cluster.get(SERVICE)
    assert found is not None
    world.serving.now = world.clock.now()
    world.serving.kill(found.uid)
    world.run(0.2)

    world.wrong = timedelta(hours=hours)
    world.run(10)

    assert world.ready(SERVICE)["status"] == "True"
    assert world.serving.started == 2
