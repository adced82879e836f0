"""A run's stage reaches status, events and metrics, only when a step of this very attempt reports it, and not often."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import simulation
from pelagos.observability.metrics import REGISTRY
from pelagos.ports.fakes.authority import reported
from pelagos.ports.pipelines import RunName
from pelagos_contract.progress import LARGEST
from pelagos_contract.sealing import PROGRESS, REPORT
from simulation import DETECTOR, Simulation, status

EVALUATING = {"stage": "Evaluation", "done": 1, "total": 4, "ended": [{"stage": "Training", "seconds": 7.2}]}
ENDED = [{"stage": "Training", "seconds": 7.2}, {"stage": "Evaluation", "seconds": 2.0}]


@pytest.fixture
def training(world: Simulation) -> RunName:
    """Start a training that continues until a test says otherwise; returns its name."""
    world.data_plane.seconds = 10_000
    simulation.apply_samples(world)
    world.start()
    world.data_plane.seconds = 3
    world.run_until(lambda: any(known.request.flow == "training" for known in world.pipelines.runs.values()))
    world.data_plane.seconds = 10_000
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")
    return next(name for name, known in world.pipelines.runs.items() if known.request.flow == "training")


def folder(world: Simulation, name: RunName) -> str:
    path = world.objects.path(world.pipelines.runs[name].request.parameters["report"])
    assert path is not None
    return path


def seconds_of(stage: str) -> tuple[float, float]:
    labels = {"kind": "TrainingRun", "stage": stage}
    values = (REGISTRY.get_sample_value(f"pelagos_stage_duration_seconds_{part}", labels) for part in ("count", "sum"))
    count, total = values
    return count or 0.0, total or 0.0


def test_it_is_shown_announced_once_and_counted_once(world: Simulation, training: RunName) -> None:
    before = seconds_of("Training")
    world.data_plane.tell(training, EVALUATING)
    world.run(10)

    progress = status(world, DETECTOR)["progress"]
    assert (progress["stage"], progress["stagePercent"]) == ("Evaluation", 25)
    assert world.ready(DETECTOR)["reason"] == "Evaluating"
    assert [event.reason for event in world.cluster.events if event.key == DETECTOR].count("Evaluating") == 1
    assert seconds_of("Training") == (before[0] + 1, before[1] + 7)

    written = world.versions()[DETECTOR]
    world.run(60)
    assert world.versions()[DETECTOR] == written, "what says the same is not written again"


def test_what_the_steps_said_last_stays_when_the_run_has_ended(world: Simulation, training: RunName) -> None:
    world.data_plane.tell(training, EVALUATING)
    world.run(5)
    world.data_plane.tell(training, {"ended": ENDED})
    world.data_plane.seconds = 0
    world.run_until(lambda: world.ready(DETECTOR).get("status") == "True")
    world.run(5)

    progress = status(world, DETECTOR)["progress"]
    assert "stage" not in progress
    assert [ended["stage"] for ended in progress["stages"]] == ["Training", "Evaluation", "Registration"]
    world.objects.files.pop(f"{folder(world, training)}/progress.json")
    world.restart()
    world.run(60)
    assert status(world, DETECTOR)["progress"] == progress


def test_what_a_stage_was_when_its_step_was_killed_is_told_and_the_next_attempt_does_not_believe_it(
    world: Simulation, training: RunName
) -> None:
    world.data_plane.tell(training, EVALUATING)
    world.run(5)
    world.data_plane.interruptions = 1
    world.data_plane.seconds = 0
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "PipelineInterrupted")
    assert world.ready(DETECTOR)["message"].startswith("in the stage Evaluation: ")
    assert "stage" not in status(world, DETECTOR)["progress"]

    world.data_plane.seconds = 10_000
    world.run_until(lambda: world.pipelines.runs[training].run.attempt == 2)
    world.run(10)
    assert world.ready(DETECTOR)["reason"] == "Training"
    assert not {"stage", "stages"} & status(world, DETECTOR)["progress"].keys()


def _unsealed(_: Simulation, __: RunName) -> Any:
    return EVALUATING


def _of_another_attempt(world: Simulation, name: RunName) -> Any:
    return reported(world.authority, replace(world.pipelines.runs[name].request, attempt=2), EVALUATING, PROGRESS)


def _of_another_run(world: Simulation, name: RunName) -> Any:
    return reported(
        world.authority, replace(world.pipelines.runs[name].request, name=RunName("x")), EVALUATING, PROGRESS
    )


def _sealed_as_a_report(world: Simulation, name: RunName) -> Any:
    return reported(world.authority, world.pipelines.runs[name].request, EVALUATING, REPORT)


def _not_understood(world: Simulation, name: RunName) -> Any:
    return reported(world.authority, world.pipelines.runs[name].request, {"stage": "Mining"}, PROGRESS)


def _too_large(world: Simulation, name: RunName) -> Any:
    return reported(world.authority, world.pipelines.runs[name].request, EVALUATING, PROGRESS) | {"x": "y" * LARGEST}


@pytest.mark.parametrize(
    "written", [_unsealed, _of_another_attempt, _of_another_run, _sealed_as_a_report, _not_understood, _too_large]
)
def test_what_others_write_there_is_nothing(
    world: Simulation, training: RunName, written: Callable[[Simulation, RunName], Any]
) -> None:
    world.objects.files[f"{folder(world, training)}/progress.json"] = json.dumps(written(world, training))
    world.run(10)

    assert world.ready(DETECTOR)["reason"] == "Training"
    assert not {"stage", "stages"} & status(world, DETECTOR)["progress"].keys()
