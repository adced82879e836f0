"""Nothing is started for deleted resources: neither after a watch that expired nor while one is silent."""

from __future__ import annotations

import pytest

import builders
import simulation
from pelagos.api import kinds
from simulation import DETECTOR, FRAMES, SERVICE, Simulation


@pytest.fixture
def standby(world: Simulation) -> Simulation:
    """A standby operator that has seen a Ready Dataset and a TrainingRun, which continues once an operator leads."""
    simulation.apply_samples(world, training={"suspend": True}, service={"suspend": True})
    world.start()
    world.run(30)
    world.stop()
    world.cluster.edit(DETECTOR, {"suspend": False})
    world.cluster.edit(SERVICE, {"suspend": False})
    world.start(leading=False)
    world.run(1)
    return world


def lead(world: Simulation) -> None:
    assert world.life is not None
    world.life.loop.lead()
    world.run(60)


def launched(world: Simulation) -> tuple[int, int, int]:
    """How many trainings, tracked runs and servers were ever created."""
    trainings = [run for run in world.pipelines.runs.values() if run.request.flow == "training"]
    return len(trainings), world.tracking.created, world.serving.started


@pytest.mark.parametrize("silent", [False, True], ids=["the watch expired", "the watch is silent"])
def test_a_standby_that_leads_starts_nothing_for_a_training_run_that_was_deleted(
    standby: Simulation, silent: bool
) -> None:
    standby.cluster.lagging = True
    standby.cluster.remove(DETECTOR)
    standby.cluster.remove(SERVICE)
    if not silent:
        standby.cluster.expire()

    lead(standby)

    assert launched(standby) == (0, 0, 0)
    standby.verify()


@pytest.mark.parametrize("silent", [False, True], ids=["the watch expired", "the watch is silent"])
def test_no_training_starts_on_a_dataset_that_was_deleted(standby: Simulation, silent: bool) -> None:
    standby.cluster.lagging = True
    standby.cluster.remove(FRAMES)
    if not silent:
        standby.cluster.expire()

    lead(standby)

    assert launched(standby) == (0, 0, 0)
    assert standby.condition(DETECTOR, "DatasetReady")["reason"] == "DatasetNotFound"
    standby.verify()


def test_a_dataset_that_was_made_anew_under_the_name_is_the_one_that_counts(standby: Simulation) -> None:
    standby.cluster.lagging = True
    standby.cluster.remove(FRAMES)
    again = {**builders.DATASET, "split": {"seed": 7}}
    standby.create(kinds.DATASET, "frames", again)

    lead(standby)
    standby.cluster.catch_up()
    standby.run_until(standby.all_current)

    assert launched(standby) == (1, 1, 1)
    dataset, training = (standby.cluster.get(key) for key in (FRAMES, DETECTOR))
    assert dataset is not None
    assert training is not None
    assert training.status["dataset"]["version"] == dataset.status["version"]


def test_an_operator_goes_on_with_a_cluster_that_was_restored_from_a_backup(world: Simulation) -> None:
    simulation.apply_samples(world)
    backup = world.cluster.backup()
    world.start()
    world.run_until(world.all_current)
    runs = len(world.pipelines.runs)

    world.cluster.restore(backup)
    world.run_until(world.all_current)

    assert len(world.pipelines.runs) == runs, "what was made before the restore is found again"
    world.verify()


def test_a_dataset_whose_deletion_waits_keeps_no_frozen_training_run_from_its_next_attempt(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.data_plane.seconds = 20
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") in {"Running", "Training"})
    world.cluster.hold(FRAMES, "somebody/else")
    world.cluster.delete(FRAMES)
    world.data_plane.interruptions = 1

    world.run_until(lambda: world.is_current(DETECTOR))

    assert world.cluster.get(FRAMES) is not None


def test_a_training_run_whose_deletion_waits_keeps_no_service_from_what_is_asked_of_it(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.cluster.hold(DETECTOR, "somebody/else")
    world.cluster.delete(DETECTOR)
    world.run(5)

    world.cluster.edit(SERVICE, {"resources": {"cpu": 3}})

    world.run_until(lambda: world.is_current(SERVICE))
    service = world.cluster.get(SERVICE)
    assert service is not None
    assert service.status["observedGeneration"] == service.generation


@pytest.mark.parametrize("created_anew", [True, False])
def test_a_standby_that_leads_deletes_nothing_of_those_that_have_a_name_now(
    world: Simulation, created_anew: bool
) -> None:
    """Both were deleted and cleaned up; the standby has seen only the first deletion, and its watch is silent."""
    simulation.apply_samples(world, training={"deletionPolicy": "Delete"}, dataset={"deletionPolicy": "Delete"})
    world.start()
    world.run_until(world.all_current)
    world.stop()
    specs = {key: found.spec for key in (DETECTOR, FRAMES) if (found := world.cluster.get(key)) is not None}
    for key in specs:
        world.cluster.delete(key)
    world.start(leading=False)
    world.run(1)
    world.cluster.lagging = True
    for key, spec in specs.items():
        world.cluster.remove(key)
        if created_anew:
            world.create(kinds.TRAINING_RUN if key == DETECTOR else kinds.DATASET, key.name, spec)
    files, runs = dict(world.objects.files), dict(world.tracking.runs)

    lead(world)

    assert world.objects.files == files
    assert world.tracking.runs == runs
    assert world.ask(world.registry.find_by_version("detector", "1")) is not None
    world.verify()
