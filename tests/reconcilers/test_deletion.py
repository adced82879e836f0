"""Deletion in any order: what is outside is kept or removed as deletionPolicy says, and never blocks forever."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

import builders
import simulation
from kstatus import Kstatus
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import FINISHED
from simulation import DETECTOR, FRAMES, SERVICE, Simulation

KEYS = (FRAMES, DETECTOR, SERVICE)


def ready(world: Simulation, policy: str) -> None:
    simulation.apply_samples(
        world,
        dataset={"deletionPolicy": policy},
        training={"deletionPolicy": policy},
        service={"deletionPolicy": policy},
    )
    world.start()
    world.run_until(world.all_current)


def delete(world: Simulation, *keys: Key) -> None:
    for key in keys:
        world.cluster.delete(key)
        world.run(1)


def gone(world: Simulation) -> bool:
    return not world.cluster.all()


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("order", list(permutations(KEYS)), ids=lambda order: "-".join(key.kind for key in order))
def test_any_order_works(world: Simulation, order: tuple[Key, ...], policy: str) -> None:
    ready(world, policy)

    delete(world, *order)

    world.run_until(lambda: gone(world), within=10)
    assert world.pipelines.runs == {}


def test_delete_removes_everything_outside(world: Simulation) -> None:
    ready(world, "Delete")

    delete(world, *KEYS)

    assert gone(world)
    assert world.tracking.runs == {}
    assert world.ask(world.registry.find_by_version("detector", "1")) is None
    assert world.objects.files == {}


def test_retain_keeps_versions_packages_records_and_models_and_ends_what_runs(world: Simulation) -> None:
    ready(world, "Retain")
    service = world.cluster.get(SERVICE)
    assert service is not None
    results = {path for path in world.objects.files if not path.startswith("reports/")}

    delete(world, *KEYS)

    assert gone(world)
    assert set(world.objects.files) == results
    assert [run.outcome.value for run in world.tracking.runs.values()] == ["FINISHED"]
    assert world.ask(world.registry.find_by_version("detector", "1")) is not None
    assert world.ask(world.serving.observe(service.uid)) is None


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_a_run_in_progress_is_ended_in_the_pipeline_engine_and_the_tracking_server(
    world: Simulation, policy: str
) -> None:
    simulation.apply_samples(world, training={"deletionPolicy": policy})
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")

    delete(world, DETECTOR)

    assert world.cluster.get(DETECTOR) is None
    assert all(run.run.state in FINISHED for run in world.pipelines.runs.values())
    assert [run.outcome.value for run in world.tracking.runs.values()] == (["KILLED"] if policy == "Retain" else [])


def test_a_dataset_may_go_while_a_training_uses_its_version(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")

    delete(world, FRAMES)

    world.run_until(lambda: world.ready(DETECTOR)["status"] == "True")


@pytest.mark.parametrize("system", ["pipelines", "objects", "tracking", "registry"])
def test_an_outage_holds_deletion_up_and_says_so_and_its_end_lets_it_go_on(world: Simulation, system: str) -> None:
    ready(world, "Delete")
    getattr(world, system).outage = True

    world.cluster.delete(DETECTOR)
    world.run(20)

    assert world.ready(DETECTOR)["reason"] == "DeletionBlocked"
    assert system in world.ready(DETECTOR)["message"]
    assert world.state(DETECTOR) is Kstatus.TERMINATING
    getattr(world, system).outage = False
    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=40)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_pipelines_that_keep_us_out_for_long_do_not_hold_a_deletion_up_for_ever(world: Simulation, policy: str) -> None:
    ready(world, policy)
    world.pipelines.forbidden = True

    world.cluster.delete(DETECTOR, at=world.clock.now().isoformat())
    world.run(14 * 60)
    assert world.ready(DETECTOR)["reason"] == "DeletionBlocked"
    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=400)

    told = [event for event in world.cluster.events if event.reason == "CleanUpAbandoned"]
    assert [(event.severity, "403" in event.message) for event in told] == [("Warning", True)]
    assert bool(world.tracking.runs) is (policy == "Retain"), "the rest was cleaned up all the same"


def test_a_right_that_is_given_back_in_time_lets_a_deletion_clean_up_everything(world: Simulation) -> None:
    ready(world, "Delete")
    world.pipelines.forbidden = True
    world.cluster.delete(DETECTOR, at=world.clock.now().isoformat())
    world.run(60)

    world.pipelines.forbidden = False
    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=400)

    assert not [run for run in world.pipelines.runs.values() if run.request.flow == "training"]
    assert "CleanUpAbandoned" not in [event.reason for event in world.cluster.events]


def test_deletion_while_the_operator_is_away_is_made_up_for(world: Simulation) -> None:
    ready(world, "Delete")
    world.stop()
    for key in KEYS:
        world.cluster.delete(key)
    assert len(world.cluster.all()) == 3

    world.start()

    world.run_until(lambda: gone(world), within=10)
    assert world.objects.files == {}


def test_what_was_never_reconciled_goes_at_once(world: Simulation) -> None:
    simulation.apply_samples(world)
    for key in KEYS:
        world.cluster.delete(key)

    assert gone(world)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_invalid_resources_can_be_deleted(world: Simulation, policy: str) -> None:
    simulation.apply_samples(
        world,
        dataset={"task": "Detect", "deletionPolicy": policy},
        training={"register": "wrong", "model": {"architecture": "none"}, "deletionPolicy": policy},
        service={"model": None, "deletionPolicy": policy},
    )
    world.start()
    world.run(5)
    assert {world.ready(key)["reason"] for key in KEYS} == {"InvalidSpec"}

    delete(world, *KEYS)

    world.run_until(lambda: gone(world), within=10)


def test_a_namesake_on_other_inputs_that_is_made_at_once_is_another_resource(world: Simulation) -> None:
    ready(world, "Retain")
    delete(world, DETECTOR)
    first = {run.tags["pelagos.dev/uid"] for run in world.tracking.runs.values()}

    world.create(kinds.TRAINING_RUN, "detector", builders.changed(builders.TRAINING_RUN, {"seeds": [7]}))
    world.run_until(world.all_current)

    assert len(world.tracking.runs) == 2
    assert {run.tags["pelagos.dev/uid"] for run in world.tracking.runs.values()} > first


@pytest.mark.parametrize(("policy", "kept"), [("Retain", True), ("Delete", False), (None, True)])
def test_files_of_an_endpoint_are_kept_unless_spec_says_delete(
    world: Simulation, monkeypatch: pytest.MonkeyPatch, policy: str | None, kept: bool
) -> None:
    asked: list[bool] = []

    async def remove(_uid: str, *, keep_files: bool = False) -> None:
        asked.append(keep_files)

    monkeypatch.setattr(world.serving, "remove", remove)
    ready(world, "Retain")
    found, life = world.cluster.get(SERVICE), world.life
    assert found is not None
    assert life is not None
    spec = {**found.spec, "deletionPolicy": policy} if policy else {"model": found.spec["model"]}

    world.ask(simulation.RECONCILERS["ModelService"].clean_up(replace(found, spec=spec), life.dependencies))

    assert asked == [kept]


def force(world: Simulation, key: Key) -> None:
    world.cluster.annotate(key, meta.FORCE_DELETION_ANNOTATION, "true")


LEFT = {
    "pipelines": ["pipeline runs with the label pelagos.dev/uid={uid}"],
    "objects": ["/models/default/{uid}"],
    "tracking": ["tracked run"],
    "registry": ["versions of the registered model detector with the tag pelagos.dev/uid={uid}"],
}


@pytest.mark.parametrize("system", LEFT)
def test_a_forced_deletion_names_what_it_leaves_and_cleans_up_the_rest(world: Simulation, system: str) -> None:
    ready(world, "Delete")
    found = world.cluster.get(DETECTOR)
    assert found is not None
    getattr(world, system).outage = True
    world.cluster.delete(DETECTOR, at=world.clock.now().isoformat())
    world.run(30)
    assert (
        f"annotate trainingruns.pelagos.dev detector {meta.FORCE_DELETION_ANNOTATION}=true"
        in (world.ready(DETECTOR)["message"])
    )

    force(world, DETECTOR)
    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=120)

    (told,) = [event for event in world.cluster.events if event.reason == "DeletionForced"]
    assert told.severity == "Warning"
    for words in LEFT[system]:
        assert words.format(uid=found.uid) in told.message
    getattr(world, system).outage = False
    trained = [run for run in world.pipelines.runs.values() if run.request.flow == "training"]
    assert bool(trained) is (system == "pipelines")
    assert bool(world.tracking.runs) is (system == "tracking")


def test_forcing_leaves_time_for_an_outage_that_ends(world: Simulation) -> None:
    ready(world, "Delete")
    force(world, DETECTOR)
    world.run(120)
    world.tracking.outage = True
    world.cluster.delete(DETECTOR, at=world.clock.now().isoformat())
    world.run(30)

    world.tracking.outage = False
    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=40)

    assert world.tracking.runs == {}
    assert "DeletionForced" not in [event.reason for event in world.cluster.events]


def test_nothing_is_forced_while_nobody_deletes(world: Simulation) -> None:
    ready(world, "Delete")
    force(world, DETECTOR)
    world.run(300)

    assert world.ready(DETECTOR)["status"] == "True"


def test_a_server_that_cannot_be_removed_is_named_when_deletion_is_forced(world: Simulation) -> None:
    ready(world, "Delete")
    found = world.cluster.get(SERVICE)
    assert found is not None
    force(world, SERVICE)
    world.serving.outage = True

    world.cluster.delete(SERVICE, at=world.clock.now().isoformat())
    world.run_until(lambda: world.cluster.get(SERVICE) is None, within=120)

    (told,) = [event for event in world.cluster.events if event.reason == "DeletionForced"]
    assert f"model servers with the label pelagos.dev/uid={found.uid}" in told.message


def test_a_training_that_was_over_for_long_goes_and_its_model_stays(world: Simulation) -> None:
    simulation.apply_samples(world, training={"ttlSecondsAfterFinished": 3600})
    world.start()
    world.run_until(world.all_current)
    world.run(2 * 3600)
    assert world.cluster.get(DETECTOR) is not None, "it serves"

    delete(world, SERVICE)

    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=120)
    assert [event.message for event in world.cluster.events if event.reason == "Expired"] == [
        "deleted, because it had been over for 3600 s (spec.ttlSecondsAfterFinished)"
    ]
    assert world.ask(world.registry.find_by_version("detector", "1")) is not None
    assert len(world.tracking.runs) == 1


def test_one_whose_model_is_served_by_its_registered_name_does_not_take_it_away(world: Simulation) -> None:
    registry = {"model": "detector", "alias": "champion"}
    simulation.apply_samples(
        world,
        training={"ttlSecondsAfterFinished": 60, "deletionPolicy": "Delete"},
        service={"model": {"trainingRunRef": None, "registry": registry}},
    )
    world.start()
    world.run_until(lambda: world.is_current(SERVICE))
    world.run(3600)
    assert world.cluster.get(DETECTOR) is not None
    assert world.is_current(SERVICE)

    delete(world, SERVICE)

    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=120)


def test_one_that_is_applied_again_afterwards_is_done_at_once_and_stays(world: Simulation) -> None:
    simulation.apply_samples(world, training={"ttlSecondsAfterFinished": 60})
    world.cluster.delete(SERVICE)
    world.start()
    world.run_until(lambda: world.cluster.get(DETECTOR) is None, within=3600)
    begun = world.pipelines.attempts_begun

    world.create(
        kinds.TRAINING_RUN, "detector", builders.changed(builders.TRAINING_RUN, {"ttlSecondsAfterFinished": 60})
    )
    world.run_until(lambda: world.is_current(DETECTOR))
    world.run(3600)

    assert world.is_current(DETECTOR)
    assert world.pipelines.attempts_begun == begun


def test_somebody_who_changes_it_in_the_last_moment_keeps_it(world: Simulation) -> None:
    simulation.apply_samples(world, training={"ttlSecondsAfterFinished": 60})
    world.cluster.delete(SERVICE)
    found = world.cluster.get(DETECTOR)
    assert found is not None
    world.cluster.edit(DETECTOR, {"ttlSecondsAfterFinished": None})

    assert not world.ask(world.cluster.delete_resource(found))
    assert world.cluster.get(DETECTOR) is not None
