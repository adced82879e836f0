"""Tenant settings that change or are deleted while resources live: nothing is done again, and stored objects are found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import builders
import simulation
from pelagos.api import kinds
from pelagos.ports.cluster import Key
from pelagos.ports.tenants import Tenant
from simulation import DETECTOR, FRAMES, SERVICE, Simulation

INSTITUTE = Tenant(storage_prefix="institute")
PRESENT = [Tenant(storage_prefix="faculty"), Tenant()]


@pytest.fixture
def world() -> Iterator[Simulation]:
    """A finished Dataset and TrainingRun below the prefix of their namespace; deleting them deletes everything they made."""
    with simulation.simulation() as made:
        made.tenants.known["default"] = INSTITUTE
        for path, content in list(made.volumes.files.items()):
            made.volumes.files[f"institute/{path}"] = content
        made.start()
        made.create(kinds.DATASET, FRAMES.name, {**builders.DATASET, "deletionPolicy": "Delete"})
        made.create(kinds.TRAINING_RUN, DETECTOR.name, {**builders.TRAINING_RUN, "deletionPolicy": "Delete"})
        made.run_until(lambda: all(made.ready(key).get("status") == "True" for key in (FRAMES, DETECTOR)), within=600)
        yield made


def test_a_resource_says_where_its_namespace_stored_when_it_began(world: Simulation) -> None:
    for key in (FRAMES, DETECTOR):
        found = world.cluster.get(key)
        assert found is not None
        assert found.status["storagePrefix"] == "institute"
    assert world.objects.files
    assert all(path.startswith("institute/") for path in world.objects.files)


@pytest.mark.parametrize("present", PRESENT, ids=["changed", "lost"])
def test_what_is_done_stays_done(world: Simulation, present: Tenant) -> None:
    begun = world.pipelines.attempts_begun

    world.tenants.known["default"] = present
    world.restart()
    world.run(1300)  # Longer than the refresh of the Dataset.

    assert world.pipelines.attempts_begun == begun
    assert [world.ready(key)["status"] for key in (FRAMES, DETECTOR)] == ["True", "True"]


@pytest.mark.parametrize("present", PRESENT, ids=["changed", "lost"])
def test_what_is_deleted_is_removed_where_it_was_stored(world: Simulation, present: Tenant) -> None:
    world.tenants.known["default"] = present

    for key in (DETECTOR, FRAMES):
        world.cluster.delete(key)
    world.run_until(lambda: not world.cluster.all(), within=30)

    assert world.objects.files == {}


def test_a_training_whose_status_was_lost_finds_its_storage_by_its_tracked_run(world: Simulation) -> None:
    begun = world.pipelines.attempts_begun
    world.stop()
    world.cluster.lose_status(DETECTOR)

    world.tenants.known["default"] = Tenant(storage_prefix="faculty")
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("status") == "True", within=60)

    assert world.pipelines.attempts_begun == begun


def test_new_resources_follow_the_present_tenant_settings(world: Simulation) -> None:
    world.volumes.put("faculty/samples/frames/1.png")
    world.tenants.known["default"] = Tenant(storage_prefix="faculty")

    world.create(kinds.DATASET, "later", builders.DATASET)
    world.run_until(lambda: world.ready(Key("Dataset", "default", "later")).get("status") == "True")

    assert any(path.startswith("faculty/datasets/") for path in world.objects.files)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
def test_tenant_settings_that_cannot_be_used_do_not_hold_a_deletion_up(world: Simulation, begun: bool) -> None:
    world.tenants.refused["default"] = "storagePrefix is '../other'"
    if not begun:
        world.create(kinds.DATASET, "later", {**builders.DATASET, "deletionPolicy": "Delete"})
        world.create(kinds.TRAINING_RUN, "later", {**builders.TRAINING_RUN, "deletionPolicy": "Delete"})
        world.run(5)
        assert world.ready(Key("Dataset", "default", "later"))["reason"] == "TenantRefused"

    for resource in world.cluster.all():
        world.cluster.delete(resource.key)
    world.run_until(lambda: not world.cluster.all(), within=30)

    assert world.objects.files == {}
    assert world.pipelines.runs == {}


def test_a_model_that_was_trained_below_the_earlier_prefix_can_be_served_by_its_registered_name(
    world: Simulation,
) -> None:
    world.tenants.known["default"] = Tenant(storage_prefix="faculty")
    model = {"registry": {"model": "detector", "alias": "champion"}}

    world.create(kinds.MODEL_SERVICE, SERVICE.name, {"model": model})

    world.run_until(lambda: world.ready(SERVICE).get("status") == "True", within=60)
