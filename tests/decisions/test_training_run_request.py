"""A TrainingRun's request to the data plane is complete and in the contract's words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import builders
from builders import dataset_seen, dataset_version, make_tracked, make_training_observed
from pelagos.api import reasons
from pelagos.decisions import training_run
from pelagos.decisions.effects import CancelRun, CreateTrackedRun, SubmitRun
from pelagos.decisions.training_run import identity, pipeline
from pelagos.decisions.verdicts import summary
from pelagos.ports.pipelines import RunRequest, RunState, SourceSecret
from pelagos.ports.placement import Placement, Toleration
from pelagos.ports.tenants import Tenant
from pelagos_contract import training
from pelagos_contract.tasks import Task
from pelagos_contract.weights_and_biases import WandbRequest


def submitted(task: str = "Detection", **spec: Any) -> RunRequest:
    candidate = dataset_version(task=task)
    parsed = builders.training_run_spec(**{"gates": []} | spec)  # which depend on the task
    frozen = identity.freeze(parsed, candidate)
    seen = make_training_observed(
        spec=parsed, frozen=frozen, tracked=make_tracked(), dataset=dataset_seen(candidate=candidate)
    )
    (effect,) = training_run.decide(seen).effects
    assert isinstance(effect, SubmitRun)
    return effect.request


def parsed(request: RunRequest) -> training.TrainingRequest:
    return training.TrainingRequest.model_validate_json(request.parameters["request"])


def test_every_field_of_spec_that_trains_arrives() -> None:
    request = parsed(
        submitted(
            model={"weights": {"path": "checkpoints/plankton.pt", "sha256": "d4" * 32}},
            hyperparameters={
                "imageSize": 320,
                "batchSize": 4,
                "learningRate": "1e-3",
                "optimizer": "SGD",
                "mosaic": True,
                "gradientAccumulation": 2,
                "learningRateSchedule": "Linear",
                "warmupEpochs": 1,
            },
            earlyStopping={"patience": 5},
            seeds=[7],
            resources={"cpu": 3},
            evaluation={"maxDetections": 900},
        )
    )

    assert request.dataset == training.DatasetInput(name="frames", version=builders.VERSION, uri="/objects/a1a1")
    assert request.model.weights == training.Weights(path="checkpoints/plankton.pt", sha256="d4" * 32)
    assert (request.hyperparameters.epochs, request.hyperparameters.image_size) == (10, 320)
    assert (request.hyperparameters.learning_rate, request.hyperparameters.optimizer) == ("1e-3", "SGD")
    assert request.hyperparameters.mosaic
    assert (request.hyperparameters.gradient_accumulation, request.hyperparameters.warmup_epochs) == (2, 1)
    assert request.hyperparameters.learning_rate_schedule == "Linear"
    assert request.evaluation.max_detections == 900
    assert request.early_stopping == training.EarlyStopping(patience=5)
    assert (request.seed, request.resources.cpu, request.task) == (7, 3, Task.DETECTION)


@pytest.mark.parametrize(
    ("task", "architecture", "want"),
    [("Detection", "yolov8n", 640), ("Classification", "mobilenet_v3_small", 224)],
)
def test_the_size_of_images_follows_the_task_unless_spec_names_it(task: str, architecture: str, want: int) -> None:
    request = parsed(submitted(task, model={"architecture": architecture}))

    assert request.hyperparameters.image_size == want


def test_parameters_are_those_of_the_flow() -> None:
    request = submitted()

    assert request.flow == "training"
    assert request.parameters.keys() == {
        *("request", "data_root", "store", "report", "workspace", "tracking_uri", "tracking_run"),
    }
    assert request.resources.cpu == 2


def test_the_cluster_is_asked_for_the_resources_in_spec() -> None:
    tolerations = [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    asked = {
        "gpus": 2,
        "gpuProduct": "NVIDIA-L4",
        "memory": "32Gi",
        "sharedMemory": "8Gi",
        "nodeSelector": {"zone": "a"},
    }

    request = submitted(
        "Classification",
        model={"architecture": "mobilenet_v2"},
        resources={**asked, "tolerations": tolerations, "queue": "gpu-queue"},
        deadline="1h",
    )

    assert request.namespace == "default"
    assert request.resources.placement == Placement(
        memory="32Gi",
        gpus=2,
        gpu_product="NVIDIA-L4",
        shared_memory="8Gi",
        node_selector={"zone": "a"},
        tolerations=(Toleration("gpu", "Exists", "", "NoSchedule"),),
        queue="gpu-queue",
    )
    assert request.resources.time_limit == 3600 + pipeline.DEADLINE_GRACE
    assert parsed(request).resources.gpus == 2


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_step_of_an_earlier_image_is_asked_for_nothing_that_it_does_not_know(gpus: int) -> None:
    asked = json.loads(submitted(resources={"gpus": gpus}).parameters["request"])

    assert asked["resources"] == {"cpu": 2}
    assert not {"gradientAccumulation", "learningRateSchedule", "warmupEpochs"} & asked["hyperparameters"].keys()


@pytest.mark.parametrize(
    ("prefix", "named", "experiment"),
    [
        ("default/", None, "default/frames"),
        ("default/", "survey", "default/survey"),
        ("default/", "default/survey", "default/survey"),
        ("default/", "elsewhere/survey", "default/elsewhere/survey"),
        ("", "elsewhere/survey", "elsewhere/survey"),
        ("", None, "default/frames"),
    ],
)
def test_experiments_are_below_the_prefix_of_the_namespace_once(
    prefix: str, named: str | None, experiment: str
) -> None:
    spec = builders.training_run_spec(tracking={"experiment": named})
    seen = make_training_observed(spec=spec, tenant=Tenant(experiment_prefix=prefix))

    (created,) = training_run.decide(seen).effects

    assert isinstance(created, CreateTrackedRun)
    assert created.want.experiment == experiment


def test_the_tenant_settings_of_the_namespace_reach_the_run() -> None:
    tenant = Tenant(experiment_prefix="reef/", queue="team-queue", service_account="trainer")
    frozen = builders.frozen_inputs()
    first = training_run.decide(make_training_observed(tenant=tenant, frozen=frozen)).effects
    second = training_run.decide(make_training_observed(tenant=tenant, frozen=frozen, tracked=make_tracked())).effects

    (created,), (effect,) = first, second
    assert isinstance(created, CreateTrackedRun)
    assert created.want.experiment == "reef/default/frames"
    assert isinstance(effect, SubmitRun)
    assert effect.request.tenant == tenant
    assert effect.request.resources.placement.queue == "team-queue"


def test_other_resources_are_a_reason_to_try_again_and_the_usual_ones_are_none() -> None:
    keys = [identity.resources_key(builders.training_run_spec(resources=each)) for each in ({}, {"cpu": 2}, {"cpu": 4})]

    assert keys[:2] == ["", ""]
    assert keys[2]


def test_a_run_that_waits_in_vain_is_ended_so_that_it_can_have_other_resources() -> None:
    run = builders.make_run(RunState.PENDING, message="Unschedulable: 0/1 nodes are available")
    run = replace(run, reason=reasons.UNSCHEDULABLE)
    seen = make_training_observed(
        frozen=builders.frozen_inputs(), tracked=make_tracked(), run=run, retry_key="other resources"
    )

    (effect,) = training_run.decide(seen).effects

    assert isinstance(effect, CancelRun)


def test_the_run_carries_the_uid_and_a_name_that_fits_into_a_label() -> None:
    request = submitted()

    assert request.labels == {"pelagos.dev/uid": "uid-2", "pelagos.dev/resource": "trainingrun/default/detector"}
    name = identity.name_run("123e4567-e89b-42d3-a456-426614174000", builders.frozen_inputs())
    assert len(name) <= 63


def test_the_key_depends_on_inputs_and_version_only() -> None:
    usual = builders.frozen_inputs()
    judged_otherwise = builders.frozen_inputs(gates=[], register=None, deadline="1h")
    other_seed = builders.frozen_inputs(seeds=[1])
    other_version = identity.Frozen(usual.inputs, dataset_version(builders.OTHER_VERSION))
    other_limit = builders.frozen_inputs(evaluation={"maxDetections": 300})

    assert judged_otherwise.digest == usual.digest
    assert len({usual.digest, other_seed.digest, other_version.digest, other_limit.digest}) == 4


def test_the_usual_evaluation_is_asked_for_and_leaves_the_key_as_it_was_before_there_was_another() -> None:
    assert parsed(submitted()).evaluation == training.Evaluation()
    assert builders.frozen_inputs(evaluation={"maxDetections": 3000}).digest == builders.frozen_inputs().digest
    assert builders.frozen_inputs().digest == "sha256:ae8f273b4b23d58ccaf23e6ca4a3bc8d81a9ed8a495053ad833af66729d656b4"


def test_weights_and_biases_is_told_only_where_spec_asks_for_it() -> None:
    assert parsed(submitted()).wandb is None
    assert "wandb" not in submitted().parameters["request"]


def test_offline_nobody_is_asked_and_no_secret_is_needed() -> None:
    request = submitted(tracking={"wandb": {"project": "plankton", "mode": "Offline"}})

    assert parsed(request).wandb == WandbRequest(project="plankton", name="detector", url="")
    assert request.secret is None


def test_online_the_key_comes_from_the_secret_and_stands_in_no_parameter() -> None:
    wandb = {"project": "plankton", "mode": "Online", "entity": "lab", "secretRef": {"name": "wandb"}}
    request = submitted(tracking={"wandb": wandb})

    assert parsed(request).wandb == WandbRequest(
        project="plankton", entity="lab", name="detector", url="https://api.wandb.ai"
    )
    assert request.secret == SourceSecret("wandb", (("apiKey",),))
    assert "secret" not in request.parameters["request"]


def test_online_without_a_secret_is_refused_with_the_field() -> None:
    spec = builders.training_run_spec(tracking={"wandb": {"project": "plankton", "mode": "Online"}})

    decision = training_run.decide(make_training_observed(spec=spec))

    assert summary(decision).reason == reasons.INVALID_SPEC
    assert "spec.tracking.wandb.secretRef is needed with mode Online" in summary(decision).message
