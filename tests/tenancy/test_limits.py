"""How many GPUs a resource may ask for in its namespace."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

import builders
from pelagos.api import kinds, reasons
from pelagos.decisions import model_service
from pelagos.decisions.attempts import MAX_INTERRUPTIONS
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.verdicts import summary
from pelagos.ports.cluster import Key
from pelagos.ports.fakes.pipelines import FakeRun
from pelagos.ports.pipelines import RunState
from pelagos.ports.serving import ServiceState
from pelagos.ports.tenants import Tenant
from simulation import DETECTOR, FRAMES, SERVICE, Simulation, simulation


def prepared(world: Simulation) -> None:
    """A Ready Dataset in a namespace that allows two GPUs."""
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
        world.tenants.known["default"] = Tenant(max_gpus=0)
        spec = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 1}})
        world.create(kinds.TRAINING_RUN, DETECTOR.name, spec)
        world.run(120)

        world.tenants.known["default"] = Tenant(max_gpus=1)

        world.run_until(lambda: world.ready(DETECTOR)["reason"] == "Completed", within=600)


def test_a_limit_that_is_lowered_does_not_touch_what_runs() -> None:
    with simulation() as world:
        prepared(world)
        spec = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 1}})
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
        written = world.objects.files["models/default/mine/package.json"]
        digest = hashlib.sha256(written.encode()).hexdigest()
        model = {"trainingRunRef": None, "uri": "fake://objects/models/default/mine", "manifestSha256": digest}
        spec = builders.changed(builders.MODEL_SERVICE, {"model": model, "resources": {"gpus": 1}})
        world.create(kinds.MODEL_SERVICE, SERVICE.name, spec)
        world.make_pass(SERVICE)

        assert world.condition(SERVICE, "ModelResolved")["reason"] == "GpuLimitExceeded"
        assert world.serving.started == 0


def asked_gpus(world: Simulation) -> list[int]:
    """GPUs of the latest attempt of every training."""
    trainings = [run.request for run in world.pipelines.runs.values() if run.request.flow == "training"]
    return [request.resources.placement.gpus for request in trainings]


@pytest.mark.parametrize("state", ["waiting", "failed", "suspended"])
def test_a_training_cannot_get_past_the_limit_by_asking_for_more_later(state: str) -> None:
    with simulation() as world:
        prepared(world)
        world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
        world.data_plane.halted = True
        spec = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 1}})
        world.create(kinds.TRAINING_RUN, DETECTOR.name, spec)
        world.run_until(lambda: asked_gpus(world) == [1])
        name = next(name for name, run in world.pipelines.runs.items() if run.request.flow == "training")
        run = world.pipelines.runs[name]
        if state == "waiting":
            run.run = replace(run.run, message="0/3 nodes are available", reason=reasons.UNSCHEDULABLE)
        elif state == "failed":
            world.pipelines.fail(name, "a step ended with an error")
        else:
            world.cluster.edit(DETECTOR, {"suspend": True})
            world.run(30)

        world.cluster.edit(DETECTOR, {"resources": {"gpus": 8}, "suspend": False})
        world.run(120)

        assert asked_gpus(world) == [1]
        ready = world.ready(DETECTOR)
        assert (ready["status"], ready["reason"]) == ("False", "GpuLimitExceeded")
        assert "spec.resources.gpus is 8, and the namespace allows at most 2" in ready["message"]
        assert (world.pipelines.runs[name].run.state is RunState.PENDING) is (state == "waiting")


@pytest.mark.parametrize(
    "changes",
    [{"resources": {"gpus": 8}}, {"scaling": {"max": 3}}, {"scaling": {"min": 3}}],
    ids=["gpus", "replicas", "kubectl scale"],
)
def test_a_service_cannot_get_past_the_limit_by_asking_for_more_later(changes: builders.Yaml) -> None:
    small = {"resources": {"gpus": 1}}
    tenant = Tenant(max_gpus=2)
    seen = builders.make_service_observed(spec=builders.model_service_spec(**small), tenant=tenant)
    serving = builders.make_service(ServiceState.LOADED, digest=endpoint.wanted(seen, builders.MODEL).digest)
    larger = replace(seen, spec=builders.model_service_spec(**builders.changed(small, changes)), service=serving)

    decision = model_service.decide(larger)

    assert decision.effects == ()
    assert builders.conditions(decision)["ModelLoaded"] == ("Refused", "GpuLimitExceeded")
    assert "The running server is left as it is" in summary(decision).message


def test_all_replicas_of_a_service_count() -> None:
    spec = builders.model_service_spec(resources={"gpus": 2}, scaling={"max": 2})

    decision = model_service.decide(builders.make_service_observed(spec=spec, tenant=Tenant(max_gpus=3)))

    assert decision.effects == ()
    words = "spec.resources.gpus is 2 for each of up to 2 replicas (spec.scaling), 4 in all"
    assert words in summary(decision).message


def test_a_service_that_serves_within_a_limit_that_was_lowered_since_goes_on() -> None:
    spec = builders.model_service_spec(resources={"gpus": 1})
    serving = builders.make_service(ServiceState.LOADED)
    seen = builders.make_service_observed(spec=spec, tenant=Tenant(max_gpus=0), service=serving, probe=builders.RIGHT)

    decision = model_service.decide(seen)

    assert decision.effects == ()
    assert summary(decision).reason == "Serving"


def trainings(world: Simulation) -> list[FakeRun]:
    return [run for run in world.pipelines.runs.values() if run.request.flow == "training"]


@pytest.mark.parametrize(
    ("tenant", "allowed"),
    [
        (Tenant(), "no priority"),
        (Tenant(queue="runs"), "no priority"),
        (Tenant(priority="low", priorities=("mid",)), "low, mid"),
    ],
)
@pytest.mark.parametrize("key", [FRAMES, DETECTOR])
def test_a_priority_that_the_platform_does_not_allow_is_refused_until_it_is(
    key: Key, tenant: Tenant, allowed: str
) -> None:
    with simulation() as world:
        world.tenants.known["default"] = tenant
        world.start()
        specs = {FRAMES: (kinds.DATASET, builders.DATASET), DETECTOR: (kinds.TRAINING_RUN, builders.TRAINING_RUN)}
        for each, (kind, spec) in specs.items():
            world.create(kind, each.name, builders.changed(spec, {"priority": "high"}) if each == key else spec)
        world.run(120)

        ready = world.ready(key)
        assert (ready["status"], ready["reason"]) == ("False", "PriorityNotAllowed")
        assert f"spec.priority is 'high', and the namespace may use {allowed} " in ready["message"]
        assert not [run for run in world.pipelines.runs.values() if run.request.resources.priority == "high"]

        world.tenants.known["default"] = replace(tenant, priorities=("high",))

        world.run_until(lambda: world.ready(DETECTOR)["reason"] == "Completed", within=600)


def test_the_platforms_priority_is_that_of_pipelines_that_name_none() -> None:
    with simulation() as world:
        world.tenants.known["default"] = Tenant(priority="low", priorities=("high",))
        world.start()
        world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
        world.create(kinds.TRAINING_RUN, DETECTOR.name, builders.changed(builders.TRAINING_RUN, {"priority": "high"}))
        world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Completed", within=600)

        given = {run.request.flow: run.request.resources.priority for run in world.pipelines.runs.values()}
        assert given == {"dataset-preparation": "low", "training": "high"}


@pytest.mark.parametrize("state", ["running", "ready"])
def test_another_priority_does_not_train_again(state: str) -> None:
    with simulation() as world:
        world.tenants.known["default"] = Tenant(priorities=("low", "high"))
        world.start()
        world.create(kinds.DATASET, FRAMES.name, builders.changed(builders.DATASET, {"priority": "low"}))
        world.create(kinds.TRAINING_RUN, DETECTOR.name, builders.changed(builders.TRAINING_RUN, {"priority": "low"}))
        begun = {
            "running": lambda: bool(trainings(world)),
            "ready": lambda: world.ready(DETECTOR).get("status") == "True",
        }
        world.run_until(begun[state], within=600)

        for key in (FRAMES, DETECTOR):
            world.cluster.edit(key, {"priority": "high"})
        world.run(600)

        assert world.ready(DETECTOR)["reason"] == "Completed"
        assert {run.run.attempt for run in world.pipelines.runs.values()} == {1}


def test_a_training_that_waits_in_its_queue_is_moved_by_another_priority() -> None:
    with simulation() as world:
        world.tenants.known["default"] = Tenant(priorities=("high",))
        world.start()
        world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
        world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
        world.data_plane.halted = True
        world.create(kinds.TRAINING_RUN, DETECTOR.name, builders.TRAINING_RUN)
        world.run_until(lambda: bool(trainings(world)))
        (run,) = trainings(world)
        run.run = replace(run.run, state=RunState.PENDING, message="waits in the queue", reason=reasons.QUEUED)

        world.cluster.edit(DETECTOR, {"priority": "highest"})
        world.run(60)

        # It is not allowed, and so keeps its place.
        assert world.ready(DETECTOR)["reason"] == "PriorityNotAllowed"
        assert "The waiting run is left as it is" in world.ready(DETECTOR)["message"]
        assert [(each.run.attempt, each.request.resources.priority) for each in trainings(world)] == [(1, "")]

        world.cluster.edit(DETECTOR, {"priority": "high"})
        world.run(60)

        assert [(each.run.attempt, each.request.resources.priority) for each in trainings(world)] == [(2, "high")]


def test_a_training_that_is_preempted_more_often_than_one_may_be_interrupted_ends_well() -> None:
    with simulation() as world:
        world.start()
        world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
        world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
        world.data_plane.halted = True
        world.create(kinds.TRAINING_RUN, DETECTOR.name, builders.TRAINING_RUN)
        for attempt in range(1, MAX_INTERRUPTIONS + 3):
            world.run_until(lambda attempt=attempt: [each.run.attempt for each in trainings(world)] == [attempt])  # type: ignore[misc]
            world.pipelines.preempt(trainings(world)[0].request.name)
            world.run(0.5)
            assert world.ready(DETECTOR)["reason"] in {"Preempted", "Submitting", "Queued"}
        world.data_plane.halted = False

        world.run_until(lambda: world.ready(DETECTOR)["reason"] == "Completed", within=600)
