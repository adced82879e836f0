"""Results are found again: by a rebuilt cluster, after a lost status, and when engines have forgotten their runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

import builders
import simulation
from pelagos.api import kinds, meta
from pelagos.api.versions import KEPT
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers import records
from simulation import DETECTOR, FRAMES, SERVICE, Simulation, status

ACCURATE = {"metric": "test/mAP50", "minimum": "0.5"}


def work(world: Simulation) -> tuple[int, int, int]:
    """How many pipeline attempts, tracked runs and registered versions were ever created."""
    return world.pipelines.attempts_begun, world.tracking.created, world.registry.created


def rebuild(world: Simulation, *, keeps_status: bool = False) -> None:
    """Another cluster with the same storage and MLflow: pipelines and servers of the old one no longer exist."""
    world.stop()
    world.cluster.rebuild(keeps_status=keeps_status)
    world.pipelines.runs.clear()
    world.serving.clear()
    world.start()


@pytest.mark.parametrize("keeps_status", [False, True], ids=["applied from Git", "restored with status"])
@pytest.mark.parametrize("prefix", ["", "reef"], ids=["no prefix", "prefix"])
def test_a_rebuilt_cluster_makes_nothing_again(world: Simulation, prefix: str, keeps_status: bool) -> None:
    ready = world
    ready.tenants.known["default"] = Tenant(storage_prefix=prefix)
    ready.volumes.files.update({f"reef/{path}": text for path, text in list(ready.volumes.files.items())})
    simulation.apply_samples(ready)
    ready.start()
    ready.run_until(ready.all_current)
    before, made = {key: status(ready, key) for key in (FRAMES, DETECTOR)}, work(ready)

    rebuild(ready, keeps_status=keeps_status)
    ready.run_until(ready.all_current)

    assert work(ready) == made
    for name in ("version", "uri", "images", "classes", "versions", "store"):
        assert status(ready, FRAMES)[name] == before[FRAMES][name], name
    for name in ("model", "metrics", "primaryMetric", "gates", "dataset"):
        assert status(ready, DETECTOR)[name] == before[DETECTOR][name], name
    assert status(ready, DETECTOR)["tracking"]["run"] == before[DETECTOR]["tracking"]["run"]
    assert status(ready, SERVICE)["model"]["uri"] == before[DETECTOR]["model"]["uri"]
    ready.run(60)
    ready.restart()
    ready.run(60)
    assert ready.all_current()
    assert work(ready) == made
    ready.verify()


def test_a_cluster_can_be_rebuilt_twice_and_delete_all(ready: Simulation) -> None:
    made = work(ready)
    for _ in range(2):
        rebuild(ready)
        ready.run_until(ready.all_current)
    assert work(ready) == made

    for key in (SERVICE, DETECTOR, FRAMES):
        ready.cluster.edit(key, {"deletionPolicy": "Delete"})
        ready.cluster.delete(key)
        ready.run_until(lambda key=key: ready.cluster.get(key) is None)  # type: ignore[misc]

    assert [path for path in ready.objects.files if not path.startswith("reports/")] == []
    assert ready.tracking.runs == {}
    assert ready.ask(ready.registry.find_by_version("detector", "1")) is None


def test_a_training_run_on_other_inputs_or_of_another_name_trains(ready: Simulation) -> None:
    ready.stop()
    ready.cluster.remove(DETECTOR)
    ready.create(kinds.TRAINING_RUN, "detector", builders.changed(builders.TRAINING_RUN, {"seeds": [7]}))
    ready.create(kinds.TRAINING_RUN, "other", builders.TRAINING_RUN)
    began = ready.pipelines.attempts_begun
    ready.start()
    ready.run_until(ready.all_current)

    assert ready.pipelines.attempts_begun == began + 2


def delete(world: Simulation, key: Any) -> None:
    world.cluster.delete(key)
    world.run_until(lambda: world.cluster.get(key) is None)


def test_what_a_former_training_run_of_the_name_retained_outlives_the_deletion_of_another(ready: Simulation) -> None:
    model = status(ready, DETECTOR)["model"]
    delete(ready, DETECTOR)
    others = {"seeds": [7], "deletionPolicy": "Delete"}
    ready.create(kinds.TRAINING_RUN, "detector", builders.changed(builders.TRAINING_RUN, others))
    ready.run_until(ready.all_current)
    delete(ready, DETECTOR)

    assert f"{ready.objects.path(model['uri'])}/package.json" in ready.objects.files
    assert ready.ask(ready.registry.find_by_version("detector", model["version"])) is not None
    made = work(ready)
    ready.create(kinds.TRAINING_RUN, "detector", builders.TRAINING_RUN)
    ready.run_until(ready.all_current)
    assert work(ready) == made


def test_a_training_run_that_takes_over_what_was_retained_deletes_it(ready: Simulation) -> None:
    made = work(ready)
    delete(ready, DETECTOR)
    ready.create(kinds.TRAINING_RUN, "detector", builders.changed(builders.TRAINING_RUN, {"deletionPolicy": "Delete"}))
    ready.run_until(ready.all_current)
    assert work(ready) == made
    ready.stop()
    ready.cluster.lose_status(DETECTOR)
    ready.cluster.delete(DETECTOR)
    ready.start()
    ready.run_until(lambda: ready.cluster.get(DETECTOR) is None)

    left = [path for path in ready.objects.files if path.startswith(("models/", "records/default/trainingruns/"))]
    assert left == []
    assert ready.tracking.runs == {}
    assert ready.ask(ready.registry.find_by_version("detector", "1")) is None


def test_what_a_later_life_registered_is_found_by_those_after_it_and_deleted(world: Simulation) -> None:
    simulation.apply_samples(world, training={"gates": [{**ACCURATE, "minimum": "0.99"}]})
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "GateFailed")
    rebuild(world)
    world.cluster.edit(DETECTOR, {"gates": [ACCURATE]})
    world.run_until(world.all_current)
    made = work(world)

    for keeps_status in (True, False):
        rebuild(world, keeps_status=keeps_status)
        world.run(10)
        world.run_until(world.all_current)
        assert work(world) == made

    world.cluster.edit(DETECTOR, {"deletionPolicy": "Delete"})
    delete(world, DETECTOR)
    assert world.ask(world.registry.find_by_version("detector", "1")) is None


def test_an_alias_that_somebody_has_moved_meanwhile_stays_where_it_is(ready: Simulation) -> None:
    ready.registry.plant("detector", {}, number="2")
    ready.registry.set_alias("detector", "champion", "2")

    rebuild(ready)
    ready.run_until(ready.all_current)

    champion = ready.ask(ready.registry.find_by_alias("detector", "champion"))
    assert champion is not None
    assert champion.version == "2"


def test_without_its_tracked_run_a_model_that_is_to_be_registered_is_trained_again(ready: Simulation) -> None:
    began = ready.pipelines.attempts_begun
    ready.tracking.runs.clear()
    ready.registry.forget("detector")
    ready.tracking.outage = ready.registry.outage = True
    rebuild(ready)
    ready.run(60)
    assert ready.pipelines.attempts_begun == began, "nobody knows yet"

    ready.tracking.outage = ready.registry.outage = False
    ready.run_until(ready.all_current)
    assert ready.pipelines.attempts_begun == began + 1
    made = work(ready)
    rebuild(ready)
    ready.run_until(ready.all_current)
    assert work(ready) == made


def test_without_its_tracked_run_a_model_that_nobody_registers_is_taken(world: Simulation) -> None:
    simulation.apply_samples(world, training={"register": None})
    world.start()
    world.run_until(world.all_current)
    began = world.pipelines.attempts_begun
    world.tracking.runs.clear()

    rebuild(world)
    world.run_until(world.all_current)

    assert world.pipelines.attempts_begun == began


def test_a_training_run_whose_tracked_run_was_deleted_can_be_created_anew(ready: Simulation) -> None:
    ready.tracking.runs.clear()
    ready.registry.forget("detector")
    ready.restart()
    ready.run_until(lambda: ready.ready(DETECTOR)["reason"] == "TrackedRunMissing")

    delete(ready, DETECTOR)
    ready.create(kinds.TRAINING_RUN, "detector", builders.TRAINING_RUN)

    ready.run_until(ready.all_current)


def test_what_another_namespace_made_is_not_taken(ready: Simulation) -> None:
    began = ready.pipelines.attempts_begun
    for kind, key, spec in (
        (kinds.DATASET, FRAMES, builders.DATASET),
        (kinds.TRAINING_RUN, DETECTOR, builders.changed(builders.TRAINING_RUN, {"register": None})),
    ):
        ready.cluster.create(kind, key.name, spec, namespace="reef")
        for path, text in list(ready.objects.files.items()):
            if path.startswith(f"records/default/{kind.plural}/"):
                ready.objects.files[path.replace("/default/", "/reef/")] = text

    ready.run_until(ready.all_current)

    assert ready.pipelines.attempts_begun == began + 2
    reef = [found for found in ready.cluster.all() if found.namespace == "reef"]
    assert all("/default/" not in str(found.status) for found in reef)


def test_a_record_without_the_key_that_sealed_it_counts_for_nothing(ready: Simulation) -> None:
    began = ready.pipelines.attempts_begun
    ready.keys.known = (b"another key, which is as long as keys are.",)

    rebuild(ready)
    ready.run(60)

    assert ready.pipelines.attempts_begun > began


def test_a_record_that_names_no_lives_is_read(ready: Simulation) -> None:
    """Like those from before records named any."""
    began = ready.pipelines.attempts_begun
    for path, text in list(ready.objects.files.items()):
        if path.startswith("records/"):
            record = {name: value for name, value in json.loads(text).items() if name not in {"lives", records.SEAL}}
            ready.objects.put(path, {**record, records.SEAL: ready.authority.seal(records.RECORD, record)})

    rebuild(ready)
    ready.run_until(ready.all_current)

    assert ready.pipelines.attempts_begun == began


def test_a_record_of_what_is_no_longer_in_the_store_makes_it_again(ready: Simulation) -> None:
    began = ready.pipelines.attempts_begun
    for path in list(ready.objects.files):
        if path.startswith(("datasets/", "models/")):
            del ready.objects.files[path]

    rebuild(ready)
    ready.run_until(ready.all_current)

    assert ready.pipelines.attempts_begun == began + 2
    ready.verify()


def test_the_version_history_is_found_again_when_status_was_lost(ready: Simulation) -> None:
    for seed in (1, 2):
        ready.cluster.edit(FRAMES, {"split": {"seed": seed}})
        ready.run(3)
        ready.run_until(lambda: ready.is_current(FRAMES))
    versions = status(ready, FRAMES)["versions"]
    assert len(versions) == 3
    made = work(ready)

    ready.stop()
    ready.cluster.lose_status(FRAMES)
    ready.start()
    ready.run_until(lambda: ready.is_current(FRAMES))

    assert status(ready, FRAMES)["versions"] == versions
    assert work(ready) == made


def test_the_history_is_as_it_was_however_many_versions_there_were_and_whichever_came_back(ready: Simulation) -> None:
    for seed in [*range(1, 14), 5]:
        ready.cluster.edit(FRAMES, {"split": {"seed": seed}})
        ready.run(3)
        ready.run_until(lambda: ready.is_current(FRAMES))
    before = status(ready, FRAMES)
    assert len(before["versions"]) == KEPT + 1  # the first of all, from which the TrainingRun was trained

    ready.stop()
    ready.cluster.lose_status(FRAMES)
    ready.start()
    ready.run_until(lambda: ready.is_current(FRAMES))
    assert status(ready, FRAMES)["versions"] == before["versions"]
    # The TrainingRun of the rebuilt cluster takes the newest version: nothing needs the first one any more.
    rebuild(ready)
    ready.run_until(lambda: ready.is_current(FRAMES))
    assert status(ready, FRAMES)["versions"] == before["versions"][:KEPT]


@pytest.mark.parametrize("rebuilt", [True, False], ids=["rebuilt", "status is lost"])
def test_a_retry_is_asked_for_once_whatever_was_lost_before(ready: Simulation, rebuilt: bool) -> None:
    def lose() -> None:
        ready.stop()
        ready.pipelines.runs.clear()
        ready.cluster.lose_status(FRAMES)
        if rebuilt:
            ready.cluster.rebuild()
        ready.start()
        ready.run_until(lambda: ready.is_current(FRAMES))

    began = ready.pipelines.attempts_begun
    lose()
    ready.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "now")
    ready.run(30)
    assert ready.pipelines.attempts_begun == began + 1
    lose()
    ready.run(30)
    assert ready.pipelines.attempts_begun == began + 1


def test_new_content_after_a_rebuild_joins_the_versions_of_before(ready: Simulation) -> None:
    before = status(ready, FRAMES)
    ready.stop()
    ready.volumes.put("samples/frames/extra.png", "another")

    rebuild(ready)
    ready.run_until(lambda: ready.is_current(FRAMES))

    after = status(ready, FRAMES)
    assert after["store"] == before["store"]
    assert [entry["version"] for entry in after["versions"]] == [after["version"], before["version"]]


@pytest.mark.parametrize("loses_status", [False, True], ids=["status is there", "status is lost"])
def test_what_is_done_stays_done_when_engines_forget_their_runs(ready: Simulation, loses_status: bool) -> None:
    before, made = {key: status(ready, key)["conditions"] for key in (FRAMES, DETECTOR)}, work(ready)

    ready.stop()
    ready.pipelines.runs.clear()
    if loses_status:
        ready.cluster.lose_status(FRAMES)
        ready.cluster.lose_status(DETECTOR)
    ready.start()
    ready.run_until(ready.all_current)
    ready.run(120)

    assert work(ready) == made
    if not loses_status:
        assert {key: status(ready, key)["conditions"] for key in (FRAMES, DETECTOR)} == before
    ready.verify()


def test_a_result_that_came_while_the_operator_was_away_counts_when_the_run_is_forgotten(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") in {"Running", "Training"})
    world.stop()
    world.run(30)
    made = world.pipelines.attempts_begun
    world.pipelines.runs.clear()

    world.start()
    world.run_until(world.all_current)

    assert world.pipelines.attempts_begun == made


def test_what_has_failed_for_good_is_not_tried_again_when_its_run_is_forgotten(world: Simulation) -> None:
    world.data_plane.interruptions = 100
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(FRAMES).get("reason") == "PipelineFailed", within=1000)
    made, before = world.pipelines.attempts_begun, world.ready(FRAMES)

    world.stop()
    world.pipelines.runs.clear()
    world.start()
    world.run(300)

    assert world.pipelines.attempts_begun == made
    assert world.ready(FRAMES) == before
    world.data_plane.interruptions = 0
    world.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "now")
    world.run_until(world.all_current)


def test_a_training_that_failed_its_gates_is_not_trained_again(world: Simulation) -> None:
    simulation.apply_samples(world, training={"gates": [{**ACCURATE, "minimum": "0.99"}]})
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "GateFailed")
    made = work(world)

    rebuild(world)
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "GateFailed")
    world.run(60)

    assert work(world) == made


def test_a_store_that_takes_no_record_stops_nothing_and_is_asked_again(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.objects.read_only = True
    world.start()
    world.run_until(world.all_current)
    assert "record" not in status(world, FRAMES)

    world.objects.read_only = False
    world.run(60)

    assert "record" in status(world, FRAMES)
    assert "record" in status(world, DETECTOR)
