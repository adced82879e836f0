"""Versions beyond spec.history.keep are removed, and never one that something uses, whatever happens in the meantime."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import builders
import simulation
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import RunState
from simulation import FRAMES, Fault, Simulation, status

OLD = Key("TrainingRun", "default", "old")
STEPS = [0.0, 0.1, 0.3, 0.5, 0.8, 1.2, 1.7, 2.3, 3.0, 4.0]
"""Seconds into the pass that finds new content: a removal, with its run, takes about three."""


@pytest.fixture
def kept(world: Simulation) -> Simulation:
    """A Dataset that keeps two versions, and has one."""
    begin(world)
    return world


def begin(world: Simulation, keep: int = 2) -> None:
    world.data_plane.seconds = 0.5
    spec = builders.changed(builders.DATASET, {"history": {"keep": keep}, "refresh": "1s"})
    world.create(kinds.DATASET, "frames", spec)
    world.start()
    world.run_until(lambda: settled(world))


def settled(world: Simulation) -> bool:
    """Whether the newest content has its version, and nothing is left to be removed."""
    told = status(world, FRAMES)
    runs = [known.run.state for known in world.pipelines.runs.values()]
    is_busy = {RunState.PENDING, RunState.RUNNING} & set(runs)
    return world.is_current(FRAMES) and not (told.get("removals") or {}).get("removing") and not is_busy


def show(world: Simulation, content: str) -> None:
    """Change the content of the source."""
    world.volumes.put("samples/frames/extra.png", content)


def renew(world: Simulation, content: str) -> str:
    """Change the content; returns its version once nothing is in progress."""
    show(world, content)
    world.run(2)
    world.run_until(lambda: settled(world))
    return str(status(world, FRAMES)["version"])


def listed(world: Simulation) -> list[str]:
    return [each["version"] for each in status(world, FRAMES)["versions"]]


def there(world: Simulation) -> set[str]:
    """Versions in the store."""
    parts = (path.split("/versions/") for path in world.objects.files if path.endswith("/manifest.json"))
    return {f"sha256:{rest[0].partition('/')[0]}" for _, *rest in parts if rest}


def train(world: Simulation, version: str) -> None:
    spec = {"datasetRef": {"name": "frames", "version": version}, "register": None, "gates": None}
    world.create(kinds.TRAINING_RUN, "old", builders.changed(builders.TRAINING_RUN, spec))


def watch_trainings(world: Simulation) -> Callable[[], None]:
    """From now on, record for every training whether its version existed when it ended; the returned function asserts that."""
    seen: list[bool] = []
    train = world.data_plane._train

    def noting(known: Any) -> dict[str, Any]:
        request = known.request.parameters["request"]
        seen.append(any(version.removeprefix("sha256:") in request for version in there(world)))
        return train(known)

    world.data_plane._train = noting  # type: ignore[method-assign]

    def require() -> None:
        assert all(seen), "a version was removed below a training"

    return require


def test_the_newest_versions_are_kept_and_what_was_removed_is_told(kept: Simulation) -> None:
    made = [listed(kept)[0], *(renew(kept, f"content {number}") for number in range(4))]

    assert listed(kept) == [made[4], made[3]]
    assert there(kept) == {made[4], made[3]}
    told = status(kept, FRAMES)["removals"]
    assert told == {
        "runs": 3,
        "versions": 3,
        "images": 6,
        "freedBytes": 300,
        "keptVersions": 2,
        "keptImages": 9,
        "keptBytes": 900,
    }
    events = [event.message for event in kept.cluster.events if event.reason == "VersionsRemoved"]
    assert len(events) == 3
    assert events[0] == "1 version and 2 image files removed, 100 bytes freed; 2 versions with 900 bytes of images kept"
    assert {event.reason for event in kept.cluster.events if event.severity == "Warning"} == set()


def test_by_default_ten_are_kept(world: Simulation) -> None:
    world.data_plane.seconds = 0.2
    world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, {"refresh": "1s"}))
    world.start()
    world.run_until(lambda: settled(world))

    for number in range(11):
        renew(world, f"content {number}")

    assert len(listed(world)) == len(there(world)) == 10
    assert status(world, FRAMES)["removals"]["versions"] == 2


def test_fewer_are_kept_as_soon_as_spec_says_so_and_more_from_then_on(kept: Simulation) -> None:
    for number in range(2):
        newest = renew(kept, f"content {number}")

    kept.cluster.edit(FRAMES, {"history": {"keep": 1}})
    kept.run(2)
    kept.run_until(lambda: settled(kept))
    assert there(kept) == {newest}

    kept.cluster.edit(FRAMES, {"history": {"keep": 3}})
    for number in range(4):
        renew(kept, f"other content {number}")
    assert len(there(kept)) == 3


def test_a_version_that_a_training_names_stays_until_that_is_gone(kept: Simulation) -> None:
    first = listed(kept)[0]
    train(kept, first)
    kept.run_until(lambda: kept.is_current(OLD))
    for number in range(3):
        newest = renew(kept, f"content {number}")

    assert first in there(kept)
    assert first in listed(kept)
    assert len(there(kept)) == 3
    message = status(kept, FRAMES)["removals"]["message"]
    assert message == "1 version beyond spec.history.keep (2) is kept: in use by TrainingRun default/old"

    kept.cluster.delete(OLD)
    kept.run(2)
    kept.run_until(lambda: settled(kept))
    assert first not in there(kept)
    assert listed(kept)[0] == newest


def test_two_datasets_of_the_same_content_do_not_keep_the_versions_of_each_other(kept: Simulation) -> None:
    """Each has its own store, in which only its own versions are."""
    twin = Key("Dataset", "default", "twin")
    kept.create(kinds.DATASET, "twin", builders.changed(builders.DATASET, {"history": {"keep": 2}, "refresh": "1s"}))
    kept.run_until(lambda: kept.is_current(twin))

    for number in range(3):
        renew(kept, f"content {number}")
        kept.run_until(lambda: status(kept, twin)["version"] == status(kept, FRAMES)["version"])
    kept.run(10)

    assert len(listed(kept)) == len(status(kept, twin)["versions"]) == len(there(kept)) == 2


def test_a_resource_of_another_namespace_keeps_a_version_and_is_not_named(kept: Simulation) -> None:
    first = listed(kept)[0]
    spec = {"datasetRef": {"name": "frames", "version": first}, "register": None, "gates": None}
    kept.cluster.create(kinds.TRAINING_RUN, "secret", builders.changed(builders.TRAINING_RUN, spec), namespace="other")
    for number in range(3):
        renew(kept, f"content {number}")

    assert first in there(kept)
    message = status(kept, FRAMES)["removals"]["message"]
    assert message == "1 version beyond spec.history.keep (2) is kept: in use by resources of another namespace"


@pytest.mark.parametrize("seconds", STEPS)
def test_a_training_that_names_a_version_while_it_leaves_has_it_or_is_told_that_it_is_gone(
    kept: Simulation, seconds: float
) -> None:
    first = listed(kept)[0]
    renew(kept, "second")
    require_present = watch_trainings(kept)
    show(kept, "third")
    kept.run(seconds)

    train(kept, first)
    kept.run(20)
    kept.run_until(lambda: settled(kept))

    require_present()
    if kept.is_current(OLD):
        assert {first, *listed(kept)} == there(kept)
    else:
        assert kept.ready(OLD)["reason"] == "DatasetVersionUnknown", kept.describe()
        assert first not in there(kept)


@pytest.mark.parametrize("seconds", STEPS)
def test_content_that_comes_back_while_its_version_leaves_has_a_version(kept: Simulation, seconds: float) -> None:
    first = listed(kept)[0]
    renew(kept, "second")
    show(kept, "third")
    kept.run(seconds)

    del kept.volumes.files["samples/frames/extra.png"]
    kept.run(3)
    kept.run_until(lambda: settled(kept))

    assert status(kept, FRAMES)["version"] == first
    # A version that was created and replaced before it ever was the newest is on no list, and stays.
    assert {first, *listed(kept)} <= there(kept)


def test_a_preparation_waits_until_versions_have_been_removed(kept: Simulation) -> None:
    renew(kept, "second")
    show(kept, "third")
    kept.data_plane.seconds = 3.0
    kept.run_until(lambda: bool((status(kept, FRAMES).get("removals") or {}).get("message")))

    show(kept, "fourth")
    kept.run_until(lambda: kept.ready(FRAMES)["reason"] == "RemovingVersions")

    assert sum(known.run.state is RunState.RUNNING for known in kept.pipelines.runs.values()) == 1
    kept.run_until(lambda: settled(kept))
    assert len(there(kept)) == 2


@pytest.mark.parametrize("wrong", [timedelta(days=400), timedelta(days=-400)], ids=["ahead", "behind"])
def test_no_clock_decides_what_goes(kept: Simulation, wrong: timedelta) -> None:
    renew(kept, "second")
    kept.wrong = wrong
    third = renew(kept, "third")
    kept.wrong = timedelta()
    fourth = renew(kept, "fourth")

    assert listed(kept) == [fourth, third]
    assert there(kept) == {fourth, third}


def test_a_removal_that_fails_leaves_the_dataset_ready_and_is_tried_again_when_somebody_asks(kept: Simulation) -> None:
    renew(kept, "second")
    failure = {"reason": "DatasetNotReadable", "message": "nothing was removed", "field": "history"}
    show(kept, "third")
    kept.run_until(lambda: bool((status(kept, FRAMES).get("removals") or {}).get("removing")))
    since = status(kept, FRAMES)["removals"]["since"]
    kept.data_plane.failures = [failure]
    kept.run(30)

    assert kept.ready(FRAMES)["status"] == "True"
    assert "history: nothing was removed" in status(kept, FRAMES)["removals"]["message"]
    assert status(kept, FRAMES)["removals"]["since"] == since
    assert len(there(kept)) == 3

    kept.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "again")
    kept.run(5)
    kept.run_until(lambda: settled(kept))
    assert len(there(kept)) == 2
    assert "since" not in status(kept, FRAMES)["removals"]


def test_a_record_does_not_bring_back_what_was_removed(kept: Simulation) -> None:
    """For a resource that lost its status, or was created again under its name."""
    made = [renew(kept, f"content {number}") for number in range(3)]

    kept.cluster.change_status(FRAMES, {"versions": None})
    kept.run(5)
    kept.run_until(lambda: settled(kept))

    assert listed(kept) == [made[2], made[1]]


def test_nothing_is_removed_before_all_resources_are_known(kept: Simulation) -> None:
    """An operator that has just started may know a Dataset, and not yet the TrainingRun that uses its versions."""
    first = listed(kept)[0]
    train(kept, first)
    kept.run_until(lambda: kept.is_current(OLD))
    renew(kept, "second")
    kept.stop()
    show(kept, "third")
    life = kept.start()
    life.dependencies.cache.ask_for_list("TrainingRun")
    training = kept.cluster.get(OLD)
    assert training is not None
    life.dependencies.cache.remove(OLD, training.uid)

    kept.run(10)

    assert len(listed(kept)) == len(there(kept)) == 3
    assert "removals" not in status(kept, FRAMES)

    # The list has arrived, and its resources are being passed on.
    life.dependencies.cache.end_list("TrainingRun", training.version, frozenset({training.uid}))
    kept.run(10)
    assert len(listed(kept)) == len(there(kept)) == 3

    life.dependencies.cache.put(training)
    kept.run(10)
    assert first in there(kept)
    assert "in use by TrainingRun default/old" in status(kept, FRAMES)["removals"]["message"]


def removal(world: Simulation, fault: Fault | None) -> tuple[str, ...]:
    """Give a Dataset that keeps one version another one; returns the calls that the operator made for that."""
    begin(world, keep=1)
    show(world, "second")
    world.restart(fault)

    def over() -> bool:
        return (status(world, FRAMES).get("removals") or {}).get("runs") == 1 and settled(world)

    assert world.life is not None
    while not over():
        if world.life.dead:
            world.restart()
        world.run_until(lambda: over() or (world.life is not None and world.life.dead))
    return tuple(world.life.calls)


@pytest.mark.parametrize("crashes", [True, False], ids=["death", "outage"])
def test_the_operator_may_die_or_lose_its_connection_at_every_call(crashes: bool) -> None:
    with simulation.simulation() as golden:
        calls = removal(golden, None)
    for fault in simulation.faults(calls, crashes=crashes):
        with simulation.simulation() as world:
            removal(world, fault)
            assert {*listed(world)} == there(world), fault
            assert len(there(world)) == 1, fault
            told = status(world, FRAMES)["removals"]
            assert (told["versions"], told["freedBytes"]) == (1, 100), fault
            world.verify()
