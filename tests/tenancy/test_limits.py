"""How many GPUs a resource may ask for in its namespace."""

from __future__ import annotations

import builders
from pelagos.api import kinds
from pelagos.ports.tenants import Tenant
from simulation import DETECTOR, FRAMES, SERVICE, Simulation, simulation


def prepared(world: Simulation) -> None:
    """A Dataset that is Ready, in a namespace that allows two GPUs."""
    world.tenants.known["default"] = Tenant(max_gpus=2)
    world.start()
    world.create(kinds.DATASET, FRAMES.name, builders.DATASET)


def test_a_training_that_asks_for_too_many_gpus_is_refused_and_never_begun() -> None:
    with simulation() as world:
        prepared(world)
        spec = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 3}})
        world.create(kinds.TRAINING_RUN, DETECTOR.name, spec)
        world.run(120)

        ready = world.ready(DETECTOR)
        assert (ready["status"], ready["reason"]) == ("False", "GpuLimitExceeded")
        assert ready["message"].startswith("spec.resources.gpus is 3, and the namespace allows at most 2")
        assert not [run for run in world.pipelines.runs.values() if run.request.flow == "training"]


def test_a_limit_that_is_raised_lets_the_training_begin_by_itself() -> None:
    with simulation() as world:
        prepared(world)
        spec = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 3}})
        world.create(kinds.TRAINING_RUN, DETECTOR.name, spec)
        world.run(120)

        world.tenants.known["default"] = Tenant(max_gpus=3)

        world.run_until(lambda: world.ready(DETECTOR)["reason"] == "Completed", within=600)


def test_a_limit_that_is_lowered_does_not_touch_what_runs() -> None:
    with simulation() as world:
        prepared(world)
        spec = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 2}})
        world.create(kinds.TRAINING_RUN, DETECTOR.name, spec)
        world.run_until(
            lambda: any(run.request.flow == "training" for run in world.pipelines.runs.values()), within=600
        )

        world.tenants.known["default"] = Tenant(max_gpus=0)
        world.run(300)

        assert world.ready(DETECTOR)["reason"] == "Completed"


def test_a_service_that_asks_for_too_many_gpus_is_not_started() -> None:
    with simulation() as world:
        world.tenants.known["default"] = Tenant(max_gpus=0)
        world.objects.put("models/default/mine/package.json", {"onnxSha256": builders.ONNX})
        model = {"trainingRunRef": None, "uri": "fake://objects/models/default/mine"}
        spec = builders.changed(builders.MODEL_SERVICE, {"model": model, "resources": {"gpus": 1}})
        world.create(kinds.MODEL_SERVICE, SERVICE.name, spec)
        world.make_pass(SERVICE)

        assert world.condition(SERVICE, "ModelResolved")["reason"] == "GpuLimitExceeded"
        assert world.serving.started == 0
