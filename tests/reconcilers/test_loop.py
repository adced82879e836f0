"""The queue of keys: each at most once in it, never processed twice at once, processed again on request.

After failures a key is processed less often.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import builders
from pelagos.api import kinds
from pelagos.api.reasons import Reason
from pelagos.decisions import dataset
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError
from pelagos.ports.fakes.cluster import Watcher
from pelagos.reconcilers import loop as loops
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.loop import Loop
from pelagos.reconcilers.turns import AnyTime
from simulation import Simulation


class Scripted(AnyTime):
    """A reconciler that does what a test says, and records when it began and ended."""

    kind = kinds.DATASET
    conditions = dataset.CONDITIONS

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.takes = 0.0
        self.recheck_after: float | None = None
        self.errors: list[BaseException] = []
        self.passes: list[tuple[Key, float, float]] = []

    async def gather(self, resource: Resource, _spec: Any, _world: Dependencies) -> None:
        began = self._simulation.event_loop.time()
        await asyncio.sleep(self.takes)
        self.passes.append((resource.key, began, self._simulation.event_loop.time()))
        if self.errors:
            raise self.errors.pop(0)

    def decide(self, _seen: None) -> Decision:
        return Decision(
            (),
            recheck_after=self.recheck_after,
            ready=Verdict("Ready", ConditionState.DONE, Reason("Fine"), "all is well"),
        )

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """Nothing to do."""

    def began(self, key: Key) -> list[float]:
        """When the passes over ``key`` began."""
        return [began for known, began, _ in self.passes if known == key]


class Scene:
    """A loop with a scripted reconciler, and the test as its watch."""

    def __init__(self, simulation: Simulation, workers: int) -> None:
        self.simulation = simulation
        self.scripted = Scripted(simulation)
        self.loop = Loop(simulation.prepare().dependencies, {"Dataset": self.scripted}, workers)
        self.simulation.cluster.watch(Watcher(lambda _seen: None, self.loop.gone))

    def uid(self, key: Key) -> str:
        """The uid of the current resource."""
        found = self.simulation.cluster.get(key)
        assert found is not None
        return found.uid

    def add_dataset(self, name: str) -> Key:
        """Create a Dataset that the loop knows, and has made its first pass over."""
        key = self.simulation.create(kinds.DATASET, name, builders.DATASET)
        self.show(key)
        self.run(self.scripted.takes + 0.01)
        return key

    def show(self, key: Key) -> None:
        """Have the watch show the current resource."""
        found = self.simulation.cluster.get(key)
        assert found is not None
        self.loop.seen(found)

    def run(self, seconds: float) -> None:
        self.simulation.run(seconds)


@contextmanager
def scene(simulation: Simulation, workers: int = 4) -> Iterator[Scene]:
    made = Scene(simulation, workers)

    async def start() -> None:
        made.loop.start()

    simulation.ask(start())
    try:
        yield made
    finally:
        simulation.ask(made.loop.stop())


def test_what_the_watch_shows_is_looked_at_once(world: Simulation) -> None:
    with scene(world) as stage:
        key = stage.add_dataset("one")
        stage.show(key)
        stage.show(key)
        stage.run(100)

        assert len(stage.scripted.began(key)) == 1


def test_many_calls_before_a_pass_are_one_pass(world: Simulation) -> None:
    with scene(world) as stage:
        key = stage.add_dataset("one")
        for _ in range(50):
            stage.loop.add(key)
        stage.run(1)

        assert len(stage.scripted.began(key)) == 2


def test_no_two_passes_of_one_resource_overlap_and_news_during_a_pass_make_one_more(world: Simulation) -> None:
    with scene(world) as stage:
        stage.scripted.takes = 5
        key = stage.add_dataset("one")
        stage.scripted.passes.clear()
        stage.loop.add(key)
        stage.run(1)
        for _ in range(10):
            stage.loop.add(key)
        stage.run(20)

        (first, second) = stage.scripted.passes
        assert first[2] <= second[1]


def test_different_resources_are_worked_on_at_once_as_far_as_there_are_workers(world: Simulation) -> None:
    with scene(world, workers=2) as stage:
        stage.scripted.takes = 5
        for name in ("one", "two", "three"):
            stage.show(world.create(kinds.DATASET, name, builders.DATASET))
        stage.run(12)

        began = sorted(began for _, began, _ in stage.scripted.passes)
        assert began == pytest.approx([0, 0, 5], abs=0.1)


def test_it_comes_back_when_asked_to(world: Simulation) -> None:
    with scene(world) as stage:
        stage.scripted.recheck_after = 10
        key = stage.add_dataset("one")
        stage.run(35)

        assert stage.scripted.began(key) == pytest.approx([0, 10, 20, 30], abs=0.1)


def test_it_does_not_come_back_unasked(world: Simulation) -> None:
    with scene(world) as stage:
        key = stage.add_dataset("one")
        stage.run(3600)

        assert len(stage.scripted.began(key)) == 1


def test_a_pass_that_something_else_caused_replaces_the_alarm(world: Simulation) -> None:
    with scene(world) as stage:
        stage.scripted.recheck_after = 10
        key = stage.add_dataset("one")
        stage.run(4)
        stage.scripted.recheck_after = None
        stage.loop.add(key)
        stage.run(100)

        assert stage.scripted.began(key) == pytest.approx([0, 4], abs=0.1)


@pytest.mark.parametrize("error", [OutageError("any", "no route"), ZeroDivisionError("a bug")], ids=["outage", "bug"])
def test_after_failures_it_comes_back_in_growing_pauses_up_to_half_a_minute(
    world: Simulation, error: Exception
) -> None:
    with scene(world) as stage:
        key = stage.add_dataset("one")
        stage.scripted.passes.clear()
        stage.scripted.errors = [error] * 8
        stage.loop.add(key)
        stage.run(300)

        began = stage.scripted.began(key)
        pauses = [after - before for before, after in itertools.pairwise(began)]
        assert len(pauses) == 8
        for pause, want in zip(pauses, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
            assert 0.79 * want <= pause <= 1.21 * want
    world.tracebacks.found.clear()


def test_a_success_ends_the_growing(world: Simulation) -> None:
    with scene(world) as stage:
        key = stage.add_dataset("one")
        for _ in range(2):
            stage.scripted.errors = [OutageError("any", "no route")] * 3
            stage.loop.add(key)
            stage.run(60)
        began = stage.scripted.began(key)

        assert began[6] - began[5] < 1.3


def test_an_outage_of_a_day_does_not_end_a_worker(world: Simulation) -> None:
    with scene(world, workers=1) as stage:
        key = stage.add_dataset("one")
        stage.scripted.errors = [OutageError("any", "no route")] * 1100
        stage.loop.add(key)
        stage.run(1110 * loops.LONGEST_BACKOFF * 1.2)

        assert not stage.scripted.errors
        assert len(stage.scripted.began(key)) == 1102


def test_what_is_gone_is_forgotten(world: Simulation) -> None:
    with scene(world) as stage:
        stage.scripted.recheck_after = 10
        key = stage.add_dataset("one")
        stage.loop.gone(key, stage.uid(key))
        stage.run(100)

        assert len(stage.scripted.began(key)) == 1


def test_what_goes_during_a_pass_is_not_looked_at_again_and_not_remembered(world: Simulation) -> None:
    with scene(world) as stage:
        stage.scripted.recheck_after = 10
        stage.scripted.takes = 5
        key = world.create(kinds.DATASET, "one", builders.DATASET)
        stage.show(key)
        stage.run(1)
        stage.loop.gone(key, stage.uid(key))
        stage.run(100)

        assert len(stage.scripted.began(key)) == 1


def test_stopping_lets_a_pass_end(world: Simulation) -> None:
    with scene(world) as stage:
        stage.scripted.takes = loops.GRACE - 1
        key = world.create(kinds.DATASET, "one", builders.DATASET)
        stage.show(key)
        stage.run(0.5)

        world.ask(stage.loop.stop())

        assert len(stage.scripted.began(key)) == 1
        assert world.ready(key)["reason"] == "Fine"


def test_stopping_drops_a_pass_that_does_not_end_and_starts_no_other(world: Simulation) -> None:
    with scene(world, workers=1) as stage:
        stage.scripted.takes = 1000
        keys = [world.create(kinds.DATASET, name, builders.DATASET) for name in ("one", "two")]
        for key in keys:
            stage.show(key)
        stage.run(0.5)
        before = world.event_loop.time()

        world.ask(stage.loop.stop())
        stage.run(2000)

        assert world.event_loop.time() - before - 2000 == pytest.approx(loops.GRACE, abs=0.5)
        assert stage.scripted.passes == []


def test_the_heartbeat_shows_that_the_event_loop_turns(world: Simulation) -> None:
    with scene(world) as stage:
        before = stage.loop.beat
        stage.run(2)

        assert stage.loop.beat > before


def test_in_a_burst_every_new_resource_gets_a_status_before_anybody_gets_a_second_look(world: Simulation) -> None:
    with scene(world, workers=2) as stage:
        stage.scripted.takes = 60.0
        keys = [world.create(kinds.DATASET, f"plankton-{number}", builders.DATASET) for number in range(20)]
        for key in keys:
            stage.show(key)

        stage.run(1.0)

        reasons = [entry["reason"] for key in keys[:-2] for entry in conditions(world, key) if entry["type"] == "Ready"]
        assert reasons.count("Accepted") >= len(keys) - 4
        stage.run(60.0 * 20)
        assert {key for key, *_ in stage.scripted.passes} == set(keys)


def conditions(world: Simulation, key: Key) -> list[dict[str, Any]]:
    found = world.cluster.get(key)
    assert found is not None
    return list(found.status.get("conditions", ()))


def test_a_tenant_with_many_failing_resources_does_not_hold_up_another(world: Simulation) -> None:
    with scene(world, workers=1) as stage:
        crowd = [stage.add_dataset(f"failing-{number}") for number in range(20)]
        one = world.cluster.create(kinds.DATASET, "one", builders.DATASET, namespace="other").key
        stage.show(one)
        stage.run(1)
        stage.scripted.takes = 1
        stage.scripted.errors = [OutageError("objects", "away") for _ in crowd]
        for key in crowd:
            stage.loop.add(key)
        stage.loop.add(one)
        asked = world.event_loop.time()
        stage.run(30)

        began = next(began for began in stage.scripted.began(one) if began >= asked)
        assert began - asked <= 2, "behind the pass in progress and one more"
