"""The loop's behaviour while another operator leads. In virtual time; nothing of loop, driver or reconcilers is replaced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import builders
import simulation
from pelagos.api import kinds
from simulation import FRAMES, OperatorProcess, Simulation


@pytest.fixture
def world() -> Iterator[Simulation]:
    with simulation.simulation() as made:
        yield made


def stand_by(world: Simulation) -> OperatorProcess:
    """An operator that watches and does not lead."""
    life = world.prepare()

    async def begin() -> None:
        life.loop.start(leading=False)
        world.cluster.watch(life.watcher)

    world.ask(begin())
    return life


def test_who_stands_by_sees_everything_and_does_nothing(world: Simulation) -> None:
    life = stand_by(world)
    world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
    world.run(120)

    assert life.dependencies.cache.get(FRAMES) is not None
    assert not world.pipelines.runs
    seen = world.cluster.get(FRAMES)
    assert seen is not None
    assert not seen.status
    assert not seen.finalizers


def test_who_takes_over_does_what_is_due(world: Simulation) -> None:
    life = stand_by(world)
    world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
    world.run(60)

    world.event_loop.call_soon(life.loop.lead)

    world.run_until(lambda: world.ready(FRAMES).get("status") == "True")


def test_who_is_followed_drops_its_passes_and_looks_at_everything_when_it_leads_again(world: Simulation) -> None:
    life = world.start()
    world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
    world.run_until(lambda: bool(world.pipelines.runs))

    world.event_loop.call_soon(life.loop.follow)
    world.run(600)
    stopped = world.ready(FRAMES)
    world.event_loop.call_soon(life.loop.lead)
    world.run_until(lambda: world.ready(FRAMES).get("status") == "True")

    assert stopped.get("status") != "True"
    assert len(world.pipelines.runs) == 1
