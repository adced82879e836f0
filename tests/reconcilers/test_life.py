"""Three resources, applied at once and in any order, become Ready one after the other; everything shown on the way is true."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

import builders
import simulation
from kstatus import Kstatus
from pelagos.api import kinds, meta
from simulation import DETECTOR, FRAMES, SERVICE, Simulation, status

SAMPLES: dict[str, tuple[kinds.Kind, str, builders.Yaml]] = {
    "dataset": (kinds.DATASET, "frames", builders.DATASET),
    "training": (kinds.TRAINING_RUN, "detector", builders.TRAINING_RUN),
    "service": (kinds.MODEL_SERVICE, "detector", builders.MODEL_SERVICE),
}


@pytest.mark.parametrize("order", list(permutations(SAMPLES)), ids="-".join)
def test_the_order_in_which_they_are_applied_does_not_matter(world: Simulation, order: tuple[str, ...]) -> None:
    world.start()
    for name in order:
        world.create(*SAMPLES[name])
        world.run(1)

    world.run_until(world.all_current)

    assert world.pipelines.attempts_begun == 2
    assert world.tracking.created == 1


def test_lineage_leads_from_the_source_to_the_endpoint(ready: Simulation) -> None:
    dataset, training, service = (status(ready, key) for key in (FRAMES, DETECTOR, SERVICE))

    assert training["dataset"]["version"] == dataset["version"]
    assert service["model"]["onnxSha256"] == training["model"]["onnxSha256"]
    assert service["model"]["uri"] == training["model"]["uri"]
    (tracked,) = ready.tracking.runs.values()
    assert tracked.tags["pelagos.dev/inputs-digest"] == training["inputsDigest"]
    version = ready.ask(ready.registry.find_by_alias("detector", "champion"))
    assert version is not None
    assert version.tags["pelagos.dev/onnx-sha256"] == training["model"]["onnxSha256"]
    assert version.run_id == tracked.id == training["tracking"]["run"]


def test_what_people_see_on_the_way(ready: Simulation) -> None:
    def told(key: Any) -> list[str]:
        """Reasons that always appear; the others pass too quickly to be seen each time."""
        return [
            reason for reason in ready.auditor.reasons(key) if reason not in {"Queued", "Running", "Greeted", "Loading"}
        ]

    assert told(FRAMES) == ["Submitting", "VersionReady"]
    assert told(DETECTOR) == ["DatasetNotReady", "Creating", "Submitting", "Training", "Registering", "Completed"]
    assert told(SERVICE) == ["TrainingRunNotReady", "Starting", "Serving"]


def test_what_waits_for_another_resource_goes_on_at_once_and_not_at_its_next_look(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    for awaited, waiting, reason in ((FRAMES, DETECTOR, "DatasetNotReady"), (DETECTOR, SERVICE, "TrainingRunNotReady")):
        world.run_until(lambda key=awaited: world.ready(key).get("status") == "True")  # type: ignore[misc]
        world.run(0.1)

        assert world.ready(waiting)["reason"] != reason


def test_events_are_posted_on_transitions_only(ready: Simulation) -> None:
    for key in (FRAMES, DETECTOR, SERVICE):
        reasons = [event.reason for event in ready.cluster.events if event.key == key]
        assert reasons == ready.auditor.reasons(key)
    assert {event.severity for event in ready.cluster.events} == {"Normal"}


def test_what_is_ready_is_not_written_again(ready: Simulation) -> None:
    assert ready.life is not None
    before = ready.versions()
    ready.life.calls.clear()

    ready.run(3600)

    assert ready.versions() == before
    assert {call.split(".")[0] for call in ready.life.calls} == {
        "tenants",
        "volumes",
        "pipelines",
        "objects",
        "serving",
    }


def test_an_operator_that_starts_again_finds_all_as_it_was(ready: Simulation) -> None:
    before = ready.versions()

    ready.restart()
    ready.run(60)

    assert ready.versions() == before
    assert ready.pipelines.attempts_begun == 2


def test_progress_is_shown_while_it_trains(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")

    progress = status(world, DETECTOR)["progress"]

    assert (progress["epoch"], progress["epochs"], progress["percent"]) == (4, 10, 40)
    assert world.ready(DETECTOR)["message"] == "epoch 4 of 10"
    assert world.state(DETECTOR) is Kstatus.IN_PROGRESS


def test_a_training_in_progress_is_not_written_at_every_look(world: Simulation) -> None:
    world.data_plane.seconds = 600
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training", within=1000)
    world.run(5)
    writes = world.cluster.status_patches

    world.run(300)

    assert world.cluster.status_patches - writes <= 6, "one write a minute for the expected end, none for looking"


def test_a_gate_that_is_missed_stalls_the_training_and_lowering_it_heals(world: Simulation) -> None:
    world.data_plane.metrics = {"test/mAP50": 0.3}
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.state(DETECTOR) is Kstatus.FAILED)

    assert world.ready(DETECTOR)["reason"] == "GateFailed"
    assert world.registry.created == 0
    assert world.state(SERVICE) is Kstatus.IN_PROGRESS
    world.cluster.edit(DETECTOR, {"gates": [{"metric": "test/mAP50", "minimum": "0.3"}]})
    world.run_until(world.all_current)
    assert world.pipelines.attempts_begun == 2


def test_an_interrupted_training_goes_on_in_the_same_tracked_run(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
    world.data_plane.interruptions = 2

    world.run_until(world.all_current)

    assert status(world, DETECTOR)["pipelineRun"]["id"] in world.pipelines.runs
    assert world.pipelines.attempts_begun == 4
    assert world.tracking.created == 1
    assert "PipelineInterrupted" in world.auditor.reasons(DETECTOR)


def test_a_training_whose_step_keeps_crashing_is_given_up_and_retried_when_asked(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
    world.data_plane.failures = [{"reason": "DiskFull", "message": "no space is left; free some"}]
    world.run_until(lambda: world.state(DETECTOR) is Kstatus.FAILED)
    assert world.ready(DETECTOR)["reason"] == "DiskFull"
    (tracked,) = world.tracking.runs.values()
    assert tracked.outcome.value == "FAILED"

    world.cluster.annotate(DETECTOR, meta.RETRY_ANNOTATION, "1")
    world.run_until(world.all_current)

    assert world.pipelines.attempts_begun == 3
    assert [run.outcome.value for run in world.tracking.runs.values()] == ["FINISHED"]


def test_a_new_image_is_a_new_version_and_no_new_training(ready: Simulation) -> None:
    before = status(ready, FRAMES)["version"]
    ready.volumes.put("samples/frames/new.png", "another image")

    ready.run(700)

    versions = status(ready, FRAMES)["versions"]
    assert [entry["version"] for entry in versions][1:] == [before]
    assert status(ready, DETECTOR)["dataset"]["version"] == before
    assert ready.pipelines.attempts_begun == 3
    assert ready.all_current()


def test_the_retry_annotation_prepares_a_ready_dataset_once_more_and_trains_nothing(ready: Simulation) -> None:
    before = status(ready, FRAMES)["versions"]

    ready.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "1")
    ready.run_until(lambda: ready.pipelines.attempts_begun == 3)
    ready.run_until(ready.all_current)
    ready.run(60)

    assert status(ready, FRAMES)["versions"] == before
    assert ready.pipelines.attempts_begun == 3


def test_a_source_that_is_missing_is_found_once_it_is_there(world: Simulation) -> None:
    world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, {"source": {"volume": {"path": "later"}}}))
    world.start()
    world.run_until(lambda: world.ready(FRAMES).get("reason") == "SourceNotFound")

    world.volumes.put("later/1.png", "image")

    world.run_until(world.all_current, within=20)


def test_status_tells_what_answers_until_a_change_has_taken_over(ready: Simulation) -> None:
    before = status(ready, SERVICE)
    ready.serving.automatic = False
    ready.cluster.edit(SERVICE, {"thresholds": {"confidence": "0.75"}})
    ready.run_until(lambda: ready.ready(SERVICE)["reason"] == "Loading")

    in_progress = status(ready, SERVICE)
    assert (in_progress["servedGeneration"], in_progress["observedGeneration"]) == (1, 2)
    assert in_progress["model"] == before["model"]
    told = [resource.status for resource in ready.auditor.seen[SERVICE] if resource.status.get("conditions")]
    starting = [entry["conditions"][0]["message"] for entry in told if entry["conditions"][0]["reason"] == "Starting"]
    assert starting[-1].endswith("; until it answers correctly, generation 1 of spec is still served")

    found = ready.cluster.get(SERVICE)
    assert found is not None
    ready.serving.finish_loading(found.uid)
    ready.run_until(ready.all_current)
    assert status(ready, SERVICE)["servedGeneration"] == 2


def test_a_change_of_scaling_alone_restarts_nothing_and_the_service_stays_ready(ready: Simulation) -> None:
    for most in (3, 1):
        ready.cluster.edit(SERVICE, {"scaling": {"max": most}})
        ready.run(30)

    assert {resource.status["conditions"][0]["status"] for resource in ready.auditor.seen[SERVICE][-3:]} == {"True"}
    assert status(ready, SERVICE)["servedGeneration"] == 3


def test_a_dead_server_is_started_again(ready: Simulation) -> None:
    found = ready.cluster.get(SERVICE)
    assert found is not None
    ready.serving.now = ready.clock.now()
    ready.serving.kill(found.uid)
    ready.run_until(lambda: ready.auditor.reasons(SERVICE)[-1] == "ServerCrashed")

    ready.run_until(ready.all_current)

    assert status(ready, SERVICE)["restarts"] == 1
    warnings = [event for event in ready.cluster.events if event.severity == "Warning"]
    assert [event.reason for event in warnings] == ["ServerCrashed"]


def test_a_server_that_answers_wrong_is_started_anew(ready: Simulation) -> None:
    found = ready.cluster.get(SERVICE)
    assert found is not None
    ready.serving.break_answers(found.uid)

    ready.run_until(lambda: ready.ready(SERVICE)["reason"] == "ProbeFailed")
    ready.run_until(ready.all_current)

    assert ready.serving.started == 2


def test_a_model_of_a_training_run_that_was_deleted_stays_served(ready: Simulation) -> None:
    ready.cluster.delete(DETECTOR)
    ready.run(30)

    assert ready.cluster.get(DETECTOR) is None
    assert ready.ready(SERVICE)["status"] == "True"
    assert ready.condition(SERVICE, "ModelResolved")["reason"] == "TrainingRunNotFound"


def test_a_service_that_is_pointed_elsewhere_by_mistake_says_so_and_goes_on_serving(ready: Simulation) -> None:
    url = status(ready, SERVICE)["url"]

    ready.cluster.edit(SERVICE, {"model": {"trainingRunRef": {"name": "misspelt"}}})
    ready.run(30)

    assert ready.ready(SERVICE)["status"] == "Unknown"
    assert "misspelt" in ready.ready(SERVICE)["message"]
    assert status(ready, SERVICE)["url"] == url
    assert ready.serving.started == 1


def test_a_service_follows_an_alias_that_moves(world: Simulation) -> None:
    service = {"model": {"trainingRunRef": None, "registry": {"model": "detector", "alias": "champion"}}}
    simulation.apply_samples(world, service=service)
    world.start()
    world.run_until(world.all_current)
    first = status(world, SERVICE)["model"]["onnxSha256"]

    better = builders.changed(builders.TRAINING_RUN, {"seeds": [1]})
    world.create(kinds.TRAINING_RUN, "better", better)
    world.run_until(lambda: status(world, SERVICE)["model"]["onnxSha256"] != first)
    world.run_until(world.all_current)

    assert status(world, SERVICE)["model"]["source"] == "detector version 2"


def test_status_that_was_lost_is_made_again_and_nothing_is_trained_twice(ready: Simulation) -> None:
    before = {key: status(ready, key) for key in (FRAMES, DETECTOR, SERVICE)}
    ready.stop()
    for key in before:
        ready.cluster.lose_status(key)

    ready.start()
    ready.run_until(ready.all_current)

    assert ready.pipelines.attempts_begun == 2
    for field in ("inputsDigest", "dataset", "metrics", "model"):
        assert status(ready, DETECTOR)[field] == before[DETECTOR][field]


def test_a_source_that_changes_while_it_is_prepared_ends_the_preparation_and_begins_another(world: Simulation) -> None:
    world.data_plane.seconds = 30
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.start()
    world.run(4)
    for content in ("second", "third"):
        world.volumes.put("samples/frames/0.png", content)
        world.run(4)

    states = [known.run.state.value for known in world.pipelines.runs.values()]

    assert sorted(states) == ["Canceled", "Canceled", "Running"]
    world.run_until(world.all_current)
    assert len(status(world, FRAMES)["versions"]) == 1


def test_a_preparation_that_was_submitted_just_before_a_crash_is_ended_when_the_recipe_changes(
    world: Simulation,
) -> None:
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.start()
    world.run_until(world.all_current)
    world.data_plane.seconds = 600
    world.stop()
    world.cluster.edit(FRAMES, {"split": {"seed": 1}})
    world.start(simulation.Fault("pipelines.submit", crashes=True, after=True))
    world.run(5)
    assert world.life is not None
    assert world.life.dead

    world.cluster.edit(FRAMES, {"split": {"seed": 2}})
    world.restart()
    world.run(5)

    states = sorted(known.run.state.value for known in world.pipelines.runs.values())
    assert states == ["Canceled", "Running", "Succeeded"]


def test_credentials_of_mlflow_that_expire_leave_what_is_done_ready(ready: Simulation) -> None:
    model = status(ready, DETECTOR)["model"]
    ready.tracking.denied = ready.registry.denied = True

    ready.restart()
    ready.run(120)

    assert ready.ready(DETECTOR)["status"] == "True"
    assert status(ready, DETECTOR)["model"] == model
    assert "as last seen: MLflow cannot be reached now" in ready.condition(DETECTOR, "Registered")["message"]
    ready.tracking.denied = ready.registry.denied = False
    ready.run_until(lambda: "as last seen" not in ready.condition(DETECTOR, "Registered")["message"])


def test_credentials_of_mlflow_that_are_expired_when_a_model_is_registered_are_told_and_renewed(
    world: Simulation,
) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")
    world.registry.denied = True
    world.run(30)

    assert world.condition(DETECTOR, "Registered")["reason"] == "RegistryUnavailable"
    assert "the token has expired" in world.ready(DETECTOR)["message"]
    world.registry.denied = False
    world.run_until(lambda: world.ready(DETECTOR)["status"] == "True", within=60)


def test_a_version_without_a_test_split_is_refused_before_a_pipeline_and_taken_when_it_has_one(
    world: Simulation,
) -> None:
    world.data_plane.empty = frozenset({"test"})
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "SplitImpossible")
    assert "no images in the split test" in world.ready(DETECTOR)["message"]
    assert {run.request.flow for run in world.pipelines.runs.values()} == {"dataset-preparation"}

    world.data_plane.empty = frozenset()
    world.cluster.edit(FRAMES, {"split": {"seed": 7}})
    world.run_until(world.all_current)


def test_what_another_engine_left_goes_when_its_successor_has_answered(world: Simulation) -> None:
    simulation.apply_samples(world)
    service = world.cluster.get(SERVICE)
    assert service is not None
    world.serving.predecessors[service.uid] = "Deployment detector"
    world.serving.automatic = False
    world.start()
    world.run_until(lambda: world.serving.started == 1)
    world.run(30)
    assert service.uid in world.serving.predecessors

    world.serving.finish_loading(service.uid)
    world.run_until(world.all_current)
    world.run(3)

    assert world.serving.predecessors == {}
    assert status(world, SERVICE)["url"] == "grpc://127.0.0.1:20003"
