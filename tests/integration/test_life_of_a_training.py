"""A TrainingRun and its ModelService on a real API server: from a Dataset's version to an endpoint that answers right."""

from __future__ import annotations

from typing import Any

import pytest

import reports
from pelagos.ports.pipelines import RunName
from pelagos.ports.tracking import Outcome
from sites import Site, condition, has_reason, is_ready

DATASET: dict[str, Any] = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
TRAINING: dict[str, Any] = {
    "datasetRef": {"name": "plankton"},
    "model": {"architecture": "yolov8n"},
    "hyperparameters": {"epochs": 3, "imageSize": 64},
    "gates": [{"metric": "test/mAP50", "minimum": "0.5"}],
    "register": {"model": "plankton-detector", "alias": "champion"},
}
SERVICE: dict[str, Any] = {"model": {"trainingRunRef": {"name": "detector"}}}
PREPARED: dict[str, Any] = {
    "version": "sha256:" + "a" * 64,
    "uri": "store/versions/a",
    "images": 10,
    "annotations": 20,
    "classes": [{"name": "Akashiwo", "images": 10, "annotations": 20}],
    "splits": {"train": {"images": 8}, "validation": {"images": 1}, "test": {"images": 1}},
    "quality": {"found": 10, "corrupt": 0, "duplicates": 0, "nearDuplicates": 0, "tooSmall": 0, "leakage": 0},
}


def trained(mean_average_precision: float = 0.61) -> dict[str, Any]:
    return {
        "metrics": {"test/mAP50": mean_average_precision, "test/mAP50/Akashiwo": mean_average_precision},
        "epochs": 3,
        "model": {
            "uri": "store/models/m",
            "onnxSha256": "b" * 64,
            "manifestSha256": "c" * 64,
            "task": "Detection",
            "labels": ["Akashiwo"],
        },
    }


def run_of(site: Site, kind: str) -> RunName:
    (name,) = [name for name in site.fakes.pipelines.runs if name.startswith(kind)]
    return name


async def succeed(site: Site, kind: str, result: dict[str, Any]) -> None:
    name = run_of(site, kind)
    site.fakes.leave(name, result)
    site.fakes.pipelines.start(name)
    site.fakes.pipelines.succeed(name)


@pytest.fixture
async def launched(site: Site) -> Site:
    """A TrainingRun whose pipeline run waits for capacity."""
    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", DATASET)
    await site.create("TrainingRun", "detector", TRAINING)
    await site.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(site, "dataset", PREPARED)
    await site.wait("TrainingRun", "detector", has_reason("Queued"))
    return site


async def test_a_training_waits_for_its_dataset_and_freezes_the_version(site: Site) -> None:
    await site.create("TrainingRun", "detector", TRAINING)
    await site.wait("TrainingRun", "detector", has_reason("DatasetNotFound"))

    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", DATASET)
    await site.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(site, "dataset", PREPARED)

    body = await site.wait("TrainingRun", "detector", has_reason("Queued"))
    assert body["status"]["dataset"]["version"] == PREPARED["version"]


async def test_a_model_that_passes_its_gates_is_registered_and_served(launched: Site) -> None:
    await launched.create("ModelService", "detector", SERVICE)
    await succeed(launched, "training", trained())

    training = await launched.wait("TrainingRun", "detector", is_ready)
    service = await launched.wait("ModelService", "detector", is_ready)

    assert condition(training, "Succeeded")["status"] == "True"
    request = launched.fakes.pipelines.runs[run_of(launched, "training")].request
    assert training["status"]["model"] == {
        "uri": reports.inside(request, "store/models/m"),
        "onnxSha256": "b" * 64,
        "manifestSha256": "c" * 64,
        "name": "plankton-detector",
        "version": "1",
    }
    assert service["status"]["model"]["onnxSha256"] == "b" * 64
    assert service["status"]["url"].startswith("grpc://127.0.0.1:")
    assert launched.fakes.tracking.created == 1
    assert [run.outcome for run in launched.fakes.tracking.runs.values()] == [Outcome.FINISHED]


async def test_a_training_that_is_over_is_deleted_when_it_says_so(launched: Site) -> None:
    await launched.patch("TrainingRun", "detector", {"spec": {"ttlSecondsAfterFinished": 1}})
    await succeed(launched, "training", trained())

    await launched.wait_gone("TrainingRun", "detector")

    assert await launched.fakes.registry.find_by_version("plankton-detector", "1") is not None


async def test_a_gate_that_fails_stalls_and_heals_when_it_is_corrected(launched: Site) -> None:
    await succeed(launched, "training", trained(0.43))
    stalled = await launched.wait("TrainingRun", "detector", has_reason("GateFailed"))
    assert "test/mAP50 is 0.4300, the minimum is 0.5" in condition(stalled, "Stalled")["message"]

    await launched.patch("TrainingRun", "detector", {"spec": {"gates": [{"metric": "test/mAP50", "minimum": "0.4"}]}})

    await launched.wait("TrainingRun", "detector", is_ready)
    assert launched.fakes.pipelines.attempts_begun == 2, "one for the dataset, one for the training"


@pytest.mark.usefixtures("no_rules")
async def test_changing_a_frozen_field_is_refused_by_name_until_it_is_set_back(launched: Site) -> None:
    await launched.patch("TrainingRun", "detector", {"spec": {"hyperparameters": {"epochs": 5}}})
    body = await launched.wait("TrainingRun", "detector", has_reason("SpecImmutable"))
    assert "spec.hyperparameters.epochs is immutable" in condition(body, "Stalled")["message"]

    await launched.patch("TrainingRun", "detector", {"spec": {"hyperparameters": {"epochs": 3}}})

    await launched.wait("TrainingRun", "detector", has_reason("Queued"))


async def test_a_restarted_operator_adopts_what_runs(launched: Site) -> None:
    before = run_of(launched, "training")
    await launched.stop_operator()
    await launched.start_operator()

    await succeed(launched, "training", trained())

    await launched.wait("TrainingRun", "detector", is_ready)
    assert run_of(launched, "training") == before
    assert launched.fakes.tracking.created == 1


async def test_a_lost_status_is_found_again_from_the_tracked_run(launched: Site) -> None:
    frozen = (await launched.get("TrainingRun", "detector"))["status"]["inputs"]
    await launched.stop_operator()
    path = f"{launched.path('TrainingRun', 'detector')}/status"
    await launched.call("PATCH", path, {"status": None}, kind="application/merge-patch+json")
    await launched.patch("Dataset", "plankton", {"spec": {"split": {"seed": 7}}})

    await launched.start_operator()

    body = await launched.wait("TrainingRun", "detector", has_reason("Queued"))
    assert body["status"]["inputs"] == frozen
    assert launched.fakes.tracking.created == 1


async def test_suspending_ends_the_run_and_resuming_continues_it(launched: Site) -> None:
    name = run_of(launched, "training")
    launched.fakes.pipelines.start(name)
    await launched.patch("TrainingRun", "detector", {"spec": {"suspend": True}})
    await launched.wait("TrainingRun", "detector", has_reason("Suspended"))

    await launched.patch("TrainingRun", "detector", {"spec": {"suspend": False}})

    await launched.wait("TrainingRun", "detector", has_reason("Queued"))
    assert run_of(launched, "training") == name


async def test_a_dead_server_is_started_again(launched: Site) -> None:
    await launched.create("ModelService", "detector", SERVICE)
    await succeed(launched, "training", trained())
    service = await launched.wait("ModelService", "detector", is_ready)

    launched.fakes.serving.kill(service["metadata"]["uid"])

    await launched.wait("ModelService", "detector", lambda body: body["status"].get("restarts") == 1 and is_ready(body))


async def test_an_unknown_registered_model_is_waited_for_until_it_is_registered(launched: Site) -> None:
    reference = {"model": {"registry": {"model": "plankton-detector", "alias": "champion"}}}
    await launched.create("ModelService", "champion", reference)
    body = await launched.wait("ModelService", "champion", has_reason("TrainingRunNotReady"))
    assert (
        "no model plankton-detector with alias champion yet; TrainingRun detector"
        in condition(body, "Ready")["message"]
    )

    await succeed(launched, "training", trained())
    launched.fakes.registry.outage = False
    await launched.wait("TrainingRun", "detector", is_ready)


@pytest.mark.parametrize(
    "order", [["Dataset", "TrainingRun", "ModelService"], ["ModelService", "Dataset", "TrainingRun"]]
)
async def test_deletion_in_any_order_leaves_nothing(launched: Site, order: list[str]) -> None:
    names = {"Dataset": "plankton", "TrainingRun": "detector", "ModelService": "detector"}
    await launched.create("ModelService", "detector", SERVICE)
    await succeed(launched, "training", trained())
    service = await launched.wait("ModelService", "detector", is_ready)
    await launched.patch("TrainingRun", "detector", {"spec": {"deletionPolicy": "Delete"}})

    for kind in order:
        await launched.delete(kind, names[kind])
    for kind in order:
        await launched.wait_gone(kind, names[kind])

    assert not launched.fakes.pipelines.runs
    assert not launched.fakes.tracking.runs
    assert await launched.fakes.serving.observe(service["metadata"]["uid"]) is None
    assert await launched.fakes.registry.find_by_version("plankton-detector", "1") is None
