"""Orphans are found in all systems, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

import simulation
from pelagos.ports.cluster import Key
from pelagos.ports.errors import OutageError
from pelagos.reconcilers import orphans
from pelagos.reconcilers.orphans import Living, Scope, State, Thing, What
from simulation import DETECTOR, FRAMES, SERVICE, Simulation

EVERYWHERE = Scope(known=frozenset({"default"}))
DATA = {What.DATASETS, What.MODELS, What.VERSION, What.TRACKED, What.RECORD}


@pytest.fixture
def ready(world: Simulation) -> Simulation:
    """Everything was created, two hours ago."""
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    started = world.clock.now()
    for run in list(world.tracking.runs.values()):
        world.tracking.runs[run.id] = replace(run, started_at=started)
    model = world.registry._models["detector"]
    model.versions = {number: replace(found, made_at=started) for number, found in model.versions.items()}
    world.stop()
    world.wrong += timedelta(hours=2)
    world.prepare()
    return world


async def _living(world: Simulation) -> Living:
    texts = {
        f"{found.kind.kind}/{found.namespace}/{found.name}": json.dumps([dict(found.spec), dict(found.status)])
        for found in world.cluster.all()
    }
    return Living(frozenset(found.uid for found in world.cluster.all()), texts)


def find(world: Simulation, scope: Scope = EVERYWHERE) -> list[Thing]:
    life = world.life or world.prepare()
    return world.ask(orphans.find(life.dependencies, scope, lambda: _living(world)))


def lose(world: Simulation, *keys: Key) -> None:
    """Remove the finalizers, so that nothing is cleaned up."""
    world.stop()
    for key in keys:
        world.cluster.remove(key)
    world.prepare()


def states(things: list[Thing]) -> dict[What, State]:
    return {thing.what: thing.state for thing in things}


def test_what_belongs_to_resources_is_no_orphan(ready: Simulation) -> None:
    assert find(ready) == []


def test_all_that_a_lost_resource_left_is_found_and_told_apart(ready: Simulation) -> None:
    lose(ready, FRAMES, DETECTOR, SERVICE)

    found = states(find(ready))

    assert {what for what, state in found.items() if state is State.RETAINED} == DATA
    assert {what for what, state in found.items() if state is State.ORPHANED} == {What.RUN, What.SERVER, What.REPORT}


def test_what_a_living_resource_names_is_used(ready: Simulation) -> None:
    lose(ready, FRAMES, DETECTOR)

    things = {thing.what: thing for thing in find(ready)}

    assert (things[What.MODELS].state, things[What.MODELS].used_by) == (State.USED, "ModelService/default/detector")
    assert all(thing.state is not State.ORPHANED for thing in things.values() if "training" in thing.owned.name)


def test_only_orphans_are_removed_and_what_is_retained_when_told(ready: Simulation) -> None:
    lose(ready, FRAMES, DETECTOR, SERVICE)
    assert ready.life is not None

    for thing in orphans.removable(find(ready), retained=False):
        ready.ask(orphans.remove(thing, ready.life.dependencies))
    assert set(states(find(ready))) == DATA
    assert ready.pipelines.runs == {}

    for thing in orphans.removable(find(ready), retained=True):
        ready.ask(orphans.remove(thing, ready.life.dependencies))
    assert find(ready) == []
    assert (ready.objects.files, ready.tracking.runs) == ({}, {})


def test_what_is_young_is_left_alone(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.objects.written = world.clock.now()
    lose(world, FRAMES, DETECTOR, SERVICE)

    assert set(states(find(world)).values()) <= {State.YOUNG, State.UNKNOWN}
    assert orphans.removable(find(world), retained=True) == []


def test_what_others_made_in_mlflow_is_none_of_our_business(ready: Simulation) -> None:
    ready.tracking.plant({"pelagos.dev/uid": "00000000-0000-0000-0000-000000000009"})
    ready.registry.plant("theirs", {"pelagos.dev/uid": "00000000-0000-0000-0000-000000000009"})
    ready.objects.put("datasets/default/not-a-uid/notes.json", {})
    ready.objects.put("reports/somebody/notes.json", {})

    assert find(ready) == []


@pytest.mark.parametrize("system", ["pipelines", "serving", "tracking", "registry", "objects", "tenants"])
def test_a_system_that_cannot_be_looked_at_is_an_error(ready: Simulation, system: str) -> None:
    getattr(ready, system).outage = True

    with pytest.raises(OutageError):
        find(ready)


def test_resources_that_cannot_be_listed_are_an_error(ready: Simulation) -> None:
    async def away() -> Living:
        raise OutageError("kubernetes", "one page is missing")

    assert ready.life is not None
    with pytest.raises(OutageError, match="one page"):
        ready.ask(orphans.find(ready.life.dependencies, EVERYWHERE, away))


def test_another_namespace_is_left_out(ready: Simulation) -> None:
    lose(ready, FRAMES, DETECTOR, SERVICE)

    assert find(ready, Scope("other")) == []
    assert {thing.owned.namespace for thing in find(ready, Scope("default"))} == {"default"}


def test_records_are_retained_and_belong_to_a_resource_of_their_name(ready: Simulation) -> None:
    ready.objects.put("records/default/datasets/frames/abc.json", {})
    ready.objects.put("records/default/datasets/gone/abc.json", {})
    ready.objects.written = ready.clock.now() - timedelta(hours=2)

    (thing,) = find(ready)

    assert (thing.what, thing.state, thing.path) == (What.RECORD, State.RETAINED, "records/default/datasets/gone")


def test_what_a_rebuilt_resource_would_take_over_by_its_records_is_used(ready: Simulation) -> None:
    lose(ready, FRAMES, DETECTOR, SERVICE)
    simulation.apply_samples(ready)

    things = {thing.what: thing for thing in find(ready)}

    for what in (What.DATASETS, What.MODELS, What.TRACKED, What.VERSION):
        assert things[what].state is State.USED
    assert What.RECORD not in things
