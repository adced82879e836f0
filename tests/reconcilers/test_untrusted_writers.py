"""Somebody else writes to MLflow, to the registry, to the store or to a status: that is output, and decides nothing.

The operator neither adopts nor deletes nor waits for anything without its seal; it names what it does not trust.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import builders
import simulation
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key
from pelagos.ports.tenants import Tenant
from pelagos.ports.tracking import TrackedRun
from pelagos_contract.tags import PACKAGE_URI_TAG, SEAL_TAG, UID_TAG
from simulation import DETECTOR, FRAMES, SERVICE, Simulation

THEIRS = {
    "name": "frames",
    "version": "sha256:" + "e" * 64,
    "uri": "fake://objects/datasets/other/uid/v",
    "task": "Detection",
}


def status(world: Simulation, key: Key) -> Any:
    found = world.cluster.get(key)
    assert found is not None
    return found.status


def uid(world: Simulation, key: Key) -> str:
    found = world.cluster.get(key)
    assert found is not None
    return found.uid


def is_stalled(world: Simulation, key: Key) -> bool:
    return any(condition["type"] == "Stalled" for condition in status(world, key).get("conditions", ()))


def begin_training(world: Simulation) -> None:
    """Wait until the tracked run exists and the training is in progress."""
    world.data_plane.seconds = 10
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")


def lose_status(world: Simulation, key: Key) -> None:
    """Delete a status, as when a cluster is restored from git."""
    world.stop()
    world.cluster.lose_status(key)
    world.start()


def genuine(world: Simulation) -> TrackedRun:
    (only,) = world.tracking.made()
    return only


def planted(world: Simulation, **changes: str) -> TrackedRun:
    """A run that claims to be the TrainingRun's, older than all others, for other data and another prefix."""
    tags = {
        UID_TAG: uid(world, DETECTOR),
        "pelagos.dev/inputs": json.dumps({"model": {"architecture": "yolov8n"}}),
        "pelagos.dev/dataset": json.dumps(THEIRS),
        "pelagos.dev/storage-prefix": "other",
    }
    return world.tracking.plant(tags | changes)


def requests(world: Simulation) -> list[str]:
    """All requests that steps ever got."""
    return [json.dumps(dict(known.request.parameters)) for known in world.pipelines.runs.values()]


def test_a_run_that_others_made_first_decides_nothing(world: Simulation) -> None:
    simulation.apply_samples(world)
    stranger = planted(world)
    world.start()
    world.run_until(world.all_current)

    assert status(world, DETECTOR)["tracking"]["run"] == genuine(world).id
    assert world.tracking.runs[stranger.id] == stranger
    assert not any("other" in request for request in requests(world))
    assert status(world, DETECTOR)["storagePrefix"] == ""


@pytest.mark.parametrize("lost", [False, True], ids=["status kept", "status lost"])
def test_a_copy_of_our_run_with_its_seal_is_another_run(world: Simulation, lost: bool) -> None:
    begin_training(world)
    copy = world.tracking.plant(genuine(world).tags)
    if lost:
        lose_status(world, DETECTOR)
    world.run_until(world.all_current)

    assert status(world, DETECTOR)["tracking"]["run"] == genuine(world).id
    assert world.tracking.runs[copy.id] == copy
    assert world.tracking.created == 1


NESTED = '{"model":' + "[" * 5000
HALF = json.dumps({"model": "\ud800"})
DEEP = '{"model":' + "[" * 970 + "]" * 970 + "}"


@pytest.mark.parametrize("name", ["pelagos.dev/seal", "pelagos.dev/inputs", "pelagos.dev/dataset", "pelagos.dev/uid"])
@pytest.mark.parametrize("value", [None, "7", NESTED, HALF], ids=["removed", "a number", "nested", "half a character"])
def test_altered_tags_change_nothing_while_status_is_there(world: Simulation, name: str, value: str | None) -> None:
    begin_training(world)
    ours = genuine(world)
    world.tracking.tag(ours.id, name, value)
    world.restart()
    world.run_until(world.all_current)

    assert status(world, DETECTOR)["tracking"]["run"] == ours.id
    assert world.tracking.created == 1
    assert genuine(world).tags["pelagos.dev/seal"] == ours.tags["pelagos.dev/seal"], "the seal is set again"


@pytest.mark.parametrize("value", [NESTED, DEEP, HALF], ids=["cut off", "as deep as can be read", "half a character"])
def test_a_run_of_others_with_inputs_that_nobody_can_read_stands_in_no_way(world: Simulation, value: str) -> None:
    simulation.apply_samples(world)
    planted(world, **{"pelagos.dev/inputs": value})
    world.start()
    world.run_until(world.all_current)

    assert status(world, DETECTOR)["tracking"]["run"] == genuine(world).id


def test_when_status_is_lost_altered_tags_are_not_taken_for_what_was_frozen(world: Simulation) -> None:
    begin_training(world)
    before = status(world, DETECTOR)["dataset"]
    world.tracking.tag(genuine(world).id, "pelagos.dev/dataset", json.dumps(THEIRS))
    lose_status(world, DETECTOR)
    world.run_until(world.all_current)

    assert status(world, DETECTOR)["dataset"] == before
    assert not any("other" in request for request in requests(world))
    assert status(world, DETECTOR)["tracking"]["run"] == genuine(world).id, "its seal is still one of what was frozen"


def test_when_status_is_lost_the_inputs_that_were_frozen_come_back(world: Simulation) -> None:
    begin_training(world)
    before = status(world, DETECTOR)
    world.volumes.put("samples/frames/new.png", "another image")
    world.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "look")
    world.run_until(lambda: len(status(world, FRAMES)["versions"]) == 2)
    lose_status(world, DETECTOR)
    world.run_until(lambda: "tracking" in status(world, DETECTOR))

    after = status(world, DETECTOR)
    assert (after["dataset"], after["tracking"]["run"]) == (before["dataset"], before["tracking"]["run"])


def test_a_deleted_resource_takes_no_run_or_version_of_others_with_it(world: Simulation) -> None:
    simulation.apply_samples(world, training={"deletionPolicy": "Delete"})
    world.start()
    world.run_until(world.all_current)
    copy = world.tracking.plant(genuine(world).tags)
    version = world.ask(world.registry.find_by_version("detector", "1"))
    assert version is not None
    theirs = world.registry.plant("detector", {**version.tags, PACKAGE_URI_TAG: "fake://objects/models/default/x"})
    world.cluster.delete(SERVICE)
    world.cluster.delete(DETECTOR)
    world.run_until(lambda: world.cluster.get(DETECTOR) is None)

    assert list(world.tracking.runs.values()) == [copy]
    assert world.ask(world.registry.find_by_version("detector", theirs.version)) is not None
    assert world.ask(world.registry.find_by_version("detector", "1")) is None


def test_without_its_key_the_operator_adopts_and_begins_nothing_and_says_so(world: Simulation) -> None:
    world.keys.known, kept = (), world.keys.known
    simulation.apply_samples(world)
    world.start()
    world.run(20)

    for key in (FRAMES, DETECTOR):
        assert world.condition(key, "Waiting")["reason"] == "AuthorityKeyMissing"
    assert (world.pipelines.submitted, world.tracking.created) == (0, 0)

    world.keys.known = kept
    world.run_until(world.all_current)


def test_what_is_served_stays_served_without_the_key(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.keys.known = ()
    world.restart()
    world.run(60)

    assert world.ask(world.serving.observe(uid(world, SERVICE))) is not None
    assert world.serving.started == 1


def test_with_another_key_no_run_is_adopted_and_no_result_believed(world: Simulation) -> None:
    begin_training(world)
    world.stop()
    world.keys.known = (b"another key, and all seals are old.",)
    world.start()
    world.run_until(lambda: all(is_stalled(world, key) for key in (FRAMES, DETECTOR)))

    assert world.ready(FRAMES)["reason"] == "ResultNotAuthentic"
    assert "sealed with another key" in world.ready(FRAMES)["message"]
    assert world.ready(DETECTOR)["reason"] == "TrackedRunMissing"
    assert world.tracking.created == 1


def test_a_rotated_key_is_taken_up_everywhere(world: Simulation) -> None:
    begin_training(world)
    before = status(world, DETECTOR)["tracking"]
    world.keys.known = (b"a newer key, that seals from now on.", *world.keys.known)
    world.run_until(world.all_current)

    after = status(world, DETECTOR)["tracking"]
    assert after["run"] == before["run"]
    assert after["seal"] != before["seal"]
    assert genuine(world).tags["pelagos.dev/seal"] == after["seal"]
    world.keys.known = world.keys.known[:1]
    lose_status(world, DETECTOR)
    world.run_until(lambda: "tracking" in status(world, DETECTOR))
    assert status(world, DETECTOR)["tracking"]["run"] == before["run"]


def result_file(world: Simulation, kind: str) -> str:
    (name,) = [file for file in world.objects.files if file.startswith(f"reports/{kind}") and "result" in file]
    return name


FORGERIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "metrics": lambda report: report | {"metrics": {"test/mAP50": 1.0}},
    "package": lambda report: report | {"model": {**report["model"], "uri": "fake://objects/models/other/uid/p"}},
    "no seal": lambda report: {name: value for name, value in report.items() if name != "seal"},
    "another attempt": lambda report: report | {"seal": report["seal"] | {"attempt": 7}},
    "seal of other things": lambda report: report | {"seal": "v1:00"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_result_that_others_wrote_is_refused_by_name_and_not_tried_for_ever(world: Simulation, forgery: str) -> None:
    begin_training(world)
    world.data_plane.halted = True
    (name,) = [name for name in world.pipelines.runs if name.startswith("training")]
    world.data_plane.end(name)
    file = result_file(world, "training")
    world.objects.put(file, FORGERIES[forgery](json.loads(world.objects.files[file])))
    world.run_until(lambda: is_stalled(world, DETECTOR))

    ready = world.ready(DETECTOR)
    assert ready["reason"] == "ResultNotAuthentic"
    assert f"fake://objects/{file} is not what its steps wrote" in ready["message"]
    assert "pelagos.dev/retry" in ready["message"]
    begun = world.pipelines.attempts_begun
    world.run(300)
    assert world.pipelines.attempts_begun == begun
    assert "model" not in status(world, DETECTOR)

    world.data_plane.halted = False
    world.cluster.annotate(DETECTOR, meta.RETRY_ANNOTATION, "again")
    world.run_until(world.all_current)
    assert world.pipelines.attempts_begun == begun + 1


def test_a_result_of_an_earlier_attempt_is_not_one_of_this(world: Simulation) -> None:
    begin_training(world)
    world.run_until(world.all_current)
    file = result_file(world, "training")
    old = world.objects.files[file]
    world.objects.files[file] = "{}"
    world.restart()
    world.run_until(lambda: is_stalled(world, DETECTOR))
    world.data_plane.halted = True
    world.cluster.annotate(DETECTOR, meta.RETRY_ANNOTATION, "again")
    world.run_until(lambda: any(known.run.attempt == 2 for known in world.pipelines.runs.values()))
    (name,) = [name for name in world.pipelines.runs if name.startswith("training")]
    world.objects.files[file] = old
    world.pipelines.succeed(name)
    world.run_until(lambda: is_stalled(world, DETECTOR))

    assert "it belongs to attempt 1, and the run is at attempt 2" in world.ready(DETECTOR)["message"]


def test_a_failure_that_others_wrote_is_not_the_last_word(world: Simulation) -> None:
    begin_training(world)
    (name,) = [name for name in world.pipelines.runs if name.startswith("training")]
    world.objects.put(f"reports/{name}/failure.json", {"reason": "OutOfMemory", "message": "give up"})
    world.pipelines.fail(name, "a step crashed")
    world.run_until(world.all_current)


def test_a_registered_model_that_others_altered_or_made_is_not_served(world: Simulation) -> None:
    simulation.apply_samples(
        world, service={"model": {"trainingRunRef": None, "registry": {"model": "detector", "alias": "champion"}}}
    )
    world.start()
    world.run_until(world.all_current)
    version = world.ask(world.registry.find_by_version("detector", "1"))
    assert version is not None
    world.objects.put("models/default/evil/package.json", {"onnxSha256": "e" * 64})
    world.registry.plant(
        "detector", {**version.tags, PACKAGE_URI_TAG: "fake://objects/models/default/evil"}, run_id=version.run_id
    )
    world.registry.set_alias("detector", "champion", "2")
    world.run_until(lambda: world.condition(SERVICE, "ModelResolved")["reason"] == "ModelNotSealed")

    world.run(60)
    assert world.condition(SERVICE, "ModelResolved")["message"].startswith(
        "spec.model.registry: detector version 2 was not registered"
    )
    assert status(world, SERVICE)["model"]["uri"] == version.tags[PACKAGE_URI_TAG], "the last model stays served"
    assert world.serving.started == 1


def test_a_copied_seal_makes_a_version_of_no_other_model(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    version = world.ask(world.registry.find_by_version("detector", "1"))
    assert version is not None
    assert SEAL_TAG in version.tags
    world.registry.plant("another", version.tags, run_id=version.run_id)
    spec = {"model": {"registry": {"model": "another", "version": "1"}}}
    key = world.create(kinds.MODEL_SERVICE, "other", spec)
    world.run_until(lambda: world.ready(key).get("reason") == "ModelNotSealed")


def test_a_name_in_the_registry_is_not_taken_away_by_a_strangers_version(world: Simulation) -> None:
    world.registry.plant("detector", {"pelagos.dev/resource": "trainingrun/elsewhere/detector"})
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)

    assert status(world, DETECTOR)["model"]["version"] == "2"


def test_a_name_stays_its_namespaces_when_its_versions_vanish_from_mlflow(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.registry.forget("detector")
    spec = {"source": {"volume": {"path": "samples/frames"}}, "task": "Detection"}
    world.cluster.create(kinds.DATASET, "frames", spec, namespace="reef")
    training = world.cluster.get(DETECTOR)
    assert training is not None
    theirs = world.cluster.create(kinds.TRAINING_RUN, "detector", training.spec, namespace="reef").key
    world.run_until(lambda: world.ready(theirs).get("reason") == "ModelOwnedByOtherNamespace")
    trained = [run.request.namespace for run in world.pipelines.runs.values() if run.request.flow == "training"]
    assert trained == ["default"], "what could not be registered is not trained"


def test_a_registry_that_is_away_keeps_nobody_from_training(world: Simulation) -> None:
    world.registry.outage = True
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "RegistryUnavailable")

    assert world.condition(DETECTOR, "GatesPassed")["status"] == "True"


PREFIXES = ["other", "..", "../other", "default/../other", "/", "a//b"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("key", [FRAMES, DETECTOR], ids=lambda key: str(key.kind))
def test_a_prefix_that_others_wrote_into_status_is_not_used_and_nothing_is_deleted_there(
    world: Simulation, key: Key, prefix: str
) -> None:
    simulation.apply_samples(world, training={"deletionPolicy": "Delete"}, dataset={"deletionPolicy": "Delete"})
    world.start()
    world.run_until(world.all_current)
    world.objects.files |= {f"{prefix}/{file}": "theirs" for file in world.objects.files}
    theirs = {file for file in world.objects.files if file.startswith(f"{prefix}/")}
    world.cluster.change_status(key, {"storagePrefix": prefix})
    if key == FRAMES:
        world.run_until(lambda: is_stalled(world, key))
        assert f'status.storagePrefix is "{prefix}", without a seal' in world.ready(key)["message"]
    else:  # the seal of the tracked run names what it was
        world.run_until(lambda: status(world, key)["storagePrefix"] == "")

    world.cluster.delete(SERVICE)
    world.cluster.delete(key)
    world.run_until(lambda: world.cluster.get(key) is None)
    assert theirs <= world.objects.files.keys()


def test_what_began_below_an_earlier_prefix_stays_there_under_our_seal(world: Simulation) -> None:
    world.tenants.known["default"] = Tenant(storage_prefix="first")
    world.volumes.files |= {f"first/{name}": content for name, content in world.volumes.files.items()}
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.tenants.known["default"] = replace(world.tenants.known["default"], storage_prefix="second")
    world.restart()
    world.run(60)

    assert world.all_current(), world.describe()
    assert status(world, FRAMES)["storagePrefix"] == "first"


@pytest.mark.parametrize(
    "uri", ["fake://objects/datasets/other/uid/v", "/etc", "fake://objects/datasets/default/../other", "s3://x"]
)
def test_a_dataset_of_others_in_the_status_of_a_dataset_is_not_trained_on(world: Simulation, uri: str) -> None:
    simulation.apply_samples(world)
    world.data_plane.seconds = 1
    world.cluster.delete(DETECTOR)
    world.start()
    world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
    world.stop()
    versions = [status(world, FRAMES)["versions"][0] | {"uri": uri}]
    world.cluster.change_status(FRAMES, {"versions": versions})
    key = world.create(kinds.TRAINING_RUN, "later", builders.TRAINING_RUN)
    world.make_pass(key)

    assert world.ready(key)["reason"] == "DatasetOutsideNamespace"
    assert uri in world.ready(key)["message"]
    assert world.tracking.created == 0
