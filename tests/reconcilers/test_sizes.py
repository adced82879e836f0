"""A status has room for what people need to see, whatever sizes data suppliers chose; if it exceeds even that, it says so."""

from __future__ import annotations

import json

import builders
import simulation
from pelagos.api import kinds
from pelagos.decisions import bounds
from simulation import DETECTOR, FRAMES, SERVICE, Simulation


def test_a_dataset_of_many_classes_of_long_names_is_ready_and_says_where_all_are(world: Simulation) -> None:
    world.data_plane.classes = [f"{number:05} {'x' * 240}" for number in range(8000)]
    world.data_plane.warnings = [f"{number} {'y' * 9000}" for number in range(200)]
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)

    found = world.cluster.get(FRAMES)
    assert found is not None
    status = found.status
    assert len(json.dumps(status)) < 100_000
    assert (status["classCount"], len(status["classes"])) == (8000, bounds.MOST_CLASSES)
    assert [(cut["field"], cut["shown"], cut["total"]) for cut in status["truncated"]] == [
        ("classes", bounds.MOST_CLASSES, 8000),
        ("warnings", bounds.MOST_WARNINGS, 200),
    ]
    path = world.objects.path(status["truncated"][0]["full"])
    assert path is not None
    everything = json.loads(world.objects.files[path])["result"]
    assert (len(everything["classes"]), len(everything["warnings"])) == (8000, 200)


def test_a_status_that_does_not_fit_says_so_and_is_written_when_it_does(world: Simulation) -> None:
    world.data_plane.classes = [f"class {number}" for number in range(90)]
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.cluster.largest = 5000
    world.start()
    world.run(30)

    ready = world.ready(FRAMES)
    assert (ready["status"], ready["reason"]) == ("False", "StatusTooLarge")
    assert "It would say: VersionReady, 12 images in 90 classes" in ready["message"]
    assert [event.reason for event in world.cluster.events].count("StatusTooLarge") == 1

    world.cluster.largest = 1_500_000
    world.run_until(lambda: world.is_current(FRAMES))
    world.verify()


def test_a_resource_that_leaves_no_room_at_all_keeps_nobody_else_waiting(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.cluster.annotate(DETECTOR, "notes", "z" * 10_000)
    world.cluster.largest = 9_000
    world.start()
    world.run(300)

    assert world.is_current(FRAMES)
    world.cluster.largest = 1_500_000
    world.run_until(world.all_current)
    assert world.is_current(SERVICE)
