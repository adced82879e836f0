"""The operator may die, or lose its connection, at every call that it makes: nothing is done twice, nothing is left undone.

The calls of every story are recorded in a run without faults. Then the story is repeated with a fault at each of its calls:
before the call has its effect, and after it but before the operator learns of it. An operator that died is started again and
remembers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest

import builders
import simulation
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key
from pelagos.ports.fakes.pipelines import FakeRun
from pelagos_contract.tags import RESOURCE_TAG
from simulation import DETECTOR, FRAMES, SERVICE, Fault, Simulation

Calls = tuple[str, ...]


class Story(Protocol):
    """Something that happens to a world, with checks of the final state; returns the calls that the operator made for it."""

    def __call__(self, world: Simulation, fault: Fault | None) -> Calls: ...


def recover(world: Simulation, holds: Callable[[], bool]) -> Calls:
    """Let the operator continue until something holds; start it again if it died. Returns the calls of its last life."""
    assert world.life is not None
    while not holds():
        if world.life.dead:
            world.restart()
        world.run_until(lambda: holds() or (world.life is not None and world.life.dead))
    return tuple(world.life.calls)


def become_ready(world: Simulation) -> None:
    world.data_plane.seconds = 1.0
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)


def check_exactly_once(world: Simulation, *, attempt: int = 1) -> None:
    """Check that the outside world is as if no fault had happened."""
    for key, want in ((FRAMES, 1), (DETECTOR, attempt)):
        found = world.cluster.get(key)
        assert found is not None
        owned = [run for run in world.pipelines.runs.values() if run.request.labels[meta.UID_LABEL] == found.uid]
        assert [(run.run.attempt, run.run.state.value) for run in owned] == [(want, "Succeeded")], world.describe()
    assert world.pipelines.attempts_begun == 1 + attempt
    assert (world.tracking.created, world.registry.created, world.serving.started) == (1, 1, 1)
    assert _outcomes(world) == ["FINISHED"]


def check_quiet(world: Simulation) -> None:
    """Check that nobody writes once everything has reached its desired state."""
    before = world.versions()
    world.run(45)  # longer than the longest pause
    assert world.versions() == before, world.describe()


def from_nothing_to_ready(world: Simulation, fault: Fault | None) -> Calls:
    world.data_plane.seconds = 1.0
    simulation.apply_samples(world)
    world.start(fault)
    calls = recover(world, world.all_current)

    world.run(30)
    check_exactly_once(world)
    check_quiet(world)
    return calls


def suspended_in_training_and_resumed(world: Simulation, fault: Fault | None) -> Calls:
    world.data_plane.seconds = 15.0
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")
    world.restart(fault)
    world.cluster.edit(DETECTOR, {"suspend": True})
    recover(world, lambda: world.ready(DETECTOR).get("reason") == "Suspended" and _outcomes(world) == ["KILLED"])
    world.cluster.edit(DETECTOR, {"suspend": False})
    calls = recover(world, world.all_current)

    world.run(30)
    check_exactly_once(world, attempt=2)
    check_quiet(world)
    return calls


def a_new_image_becomes_a_new_version(world: Simulation, fault: Fault | None) -> Calls:
    become_ready(world)
    before = world.cluster.get(FRAMES)
    assert before is not None
    world.volumes.put("samples/frames/new.png", "another image")
    # Before the run begins: afterwards, the annotation would start another one.
    world.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "look")
    world.restart(fault)
    calls = recover(world, lambda: len(_versions(world)) == 2 and world.all_current())

    world.run(30)
    assert _versions(world)[1] == _versions_of(before.status)[0]
    assert world.pipelines.attempts_begun == 3
    assert (world.tracking.created, world.registry.created, world.serving.started) == (1, 1, 1)
    check_quiet(world)
    return calls


def everything_is_deleted_with_what_is_outside(world: Simulation, fault: Fault | None) -> Calls:
    become_ready(world)
    service = world.cluster.get(SERVICE)
    assert service is not None
    for key in (FRAMES, DETECTOR, SERVICE):
        world.cluster.edit(key, {"deletionPolicy": "Delete"})
    world.restart(fault)
    for key in (FRAMES, DETECTOR, SERVICE):
        world.cluster.delete(key)
    calls = recover(world, lambda: not world.cluster.all())

    world.run(45)
    assert world.pipelines.runs == {}
    assert world.tracking.runs == {}
    assert world.ask(world.registry.find_by_version("detector", "1")) is None
    assert world.ask(world.serving.observe(service.uid)) is None
    assert world.objects.files == {}
    return calls


def of_two_at_once_the_better_one_becomes_the_champion(world: Simulation, fault: Fault | None) -> Calls:
    become_ready(world)
    gate = {"metric": "mAP50", "champion": {"require": "Better"}}
    keys = []
    world.data_plane.halted = True
    for name, seed in (("better", 1), ("best", 2)):
        spec = builders.changed(builders.TRAINING_RUN, {"seeds": [seed], "gates": [gate]})
        keys.append(world.create(kinds.TRAINING_RUN, name, spec))
    world.run_until(lambda: len(world.pipelines.runs) == 4)
    world.run(3)
    world.restart(fault)
    for key, value in zip(keys, (0.85, 0.9), strict=True):
        world.data_plane.metrics = {"test/mAP50": value}
        (name,) = [run.run.name for run in world.pipelines.runs.values() if _is_of(run, key)]
        world.data_plane.finish(name)
    world.data_plane.halted = False
    calls = recover(
        world, lambda: world.ready(keys[1]).get("status") == "True" and world.ready(keys[0]).get("status") != "Unknown"
    )

    world.run(30)
    champion = world.ask(world.registry.find_by_alias("detector", "champion"))
    assert champion is not None
    assert champion.tags[RESOURCE_TAG].endswith("/best"), world.describe()
    # The one that came second was compared again; the better one is registered only when it came first.
    registered = world.ready(keys[0])["status"] == "True"
    assert world.registry.created == 2 + registered
    assert sum(run.run.attempt for run in world.pipelines.runs.values() if any(_is_of(run, key) for key in keys)) == 3
    check_quiet(world)
    return calls


def _is_of(run: FakeRun, key: Key) -> bool:
    return run.request.labels.get(RESOURCE_TAG) == f"trainingrun/{key.namespace}/{key.name}"


def _outcomes(world: Simulation) -> list[str]:
    return [run.outcome.value for run in world.tracking.runs.values()]


def _versions(world: Simulation) -> list[str]:
    found = world.cluster.get(FRAMES)
    assert found is not None
    return _versions_of(found.status)


def _versions_of(status: object) -> list[str]:
    assert isinstance(status, dict)
    return [entry["version"] for entry in status.get("versions", ())]


RARE = {of_two_at_once_the_better_one_becomes_the_champion} if not simulation.THOROUGH else set[Story]()
"""Long stories, whose lost connections are tested in thorough runs only."""
STORIES: list[Story] = [
    from_nothing_to_ready,
    suspended_in_training_and_resumed,
    a_new_image_becomes_a_new_version,
    everything_is_deleted_with_what_is_outside,
    of_two_at_once_the_better_one_becomes_the_champion,
]


FAULTS = [(story, crashes) for story in STORIES for crashes in (True, False) if crashes or story not in RARE]


def _named(value: Any) -> str:
    return str(value.__name__) if callable(value) else "crash" if value else "lost-connection"


@pytest.mark.parametrize(("story", "crashes"), FAULTS, ids=_named)
def test_a_fault_at_any_call_is_harmless(story: Story, crashes: bool) -> None:
    with simulation.simulation() as world:
        calls = story(world, None)
    assert len(calls) > 10, "the golden life makes too few calls to tell anything"

    for fault in simulation.faults(calls, crashes=crashes):
        with simulation.simulation() as world:
            try:
                story(world, fault)
            except AssertionError as error:
                error.add_note(f"the fault: {fault}, {calls[int(fault.call) - 1]}")
                raise
