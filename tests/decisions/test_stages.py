"""A run's stage, as its steps report it: it is shown, and nothing else depends on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import NOW, make_run, make_tracked
from pelagos.api.dataset import Progress as OfDataset
from pelagos.api.training_run import Progress
from pelagos.decisions import dataset, training_run
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import Decision, summary
from pelagos.ports.pipelines import RunState
from pelagos_contract.progress import EndedStage, Stage
from pelagos_contract.progress import Progress as Told

TRAINED = [EndedStage(stage=Stage.PREPARATION, seconds=4.4), EndedStage(stage=Stage.TRAINING, seconds=90)]
STATED = [{"stage": "Preparation", "seconds": 4}, {"stage": "Training", "seconds": 90}]


def told(stage: Stage | None, **fields: Any) -> Told:
    return Told(stage=stage, since=(NOW - timedelta(seconds=20)).timestamp(), ended=TRAINED, **fields)


def training(state: RunState = RunState.RUNNING, **changes: Any) -> Decision:
    usual: dict[str, Any] = {
        "frozen": builders.frozen_inputs(),
        "tracked": make_tracked(metrics={"progress/epoch": 10}),
        "run": make_run(state),
    }
    return training_run.decide(builders.make_training_observed(**usual | changes))


@pytest.mark.parametrize(
    ("stage", "reason", "message"),
    [
        (Stage.PREPARATION, "Running", "the dataset version is being read and the framework loaded"),
        (Stage.TRAINING, "Training", "epoch 10 of 10"),
        (Stage.EVALUATION, "Evaluating", "the model is being measured on the test split"),
        (Stage.EXPORT, "Exporting", "the model is being exported and verified"),
        (None, "Training", "the stage Training has ended; the next has not started"),
    ],
)
def test_ready_says_what_the_run_does_now(stage: Stage | None, reason: str, message: str) -> None:
    ready = summary(training(told=told(stage)))

    assert (ready.reason, ready.message) == (reason, message)


def test_a_step_that_has_done_its_last_stage_is_not_said_to_train_again() -> None:
    ended = Told(ended=[*TRAINED, EndedStage(stage=Stage.EXPORT, seconds=2)])

    assert summary(training(told=ended)).reason == "Exporting"


def test_without_stages_the_epoch_is_the_last_that_is_known() -> None:
    ready = summary(training(told=None))

    assert (ready.reason, ready.message) == ("Training", "epoch 10 of 10")


@pytest.mark.parametrize("stage", [None, Stage.PREPARATION, Stage.TRAINING, Stage.EXPORT])
def test_what_the_engine_has_to_say_of_the_run_stays_beside_its_stage(stage: Stage | None) -> None:
    warned = make_run(RunState.RUNNING, message="gpu-3 may be lost")

    of_training = summary(training(told=told(stage), run=warned))
    of_dataset = summary(dataset.decide(builders.make_dataset_observed(run=warned, told=told(stage))))

    assert of_training.message.endswith("; gpu-3 may be lost")
    assert of_dataset.message.endswith("gpu-3 may be lost")


def test_status_has_the_stage_its_share_and_the_times_of_those_before() -> None:
    progress = training(told=told(Stage.EVALUATION, done=3, total=8)).status["progress"]

    assert progress == {
        "epoch": 10,
        "epochs": 10,
        "percent": 100,
        "stage": "Evaluation",
        "stageSince": "2026-03-01T11:59:40Z",
        "stagePercent": 37,
        "stages": STATED,
    }


@pytest.mark.parametrize("since", [0.0, 1e11, (NOW + timedelta(hours=1)).timestamp()])
def test_a_time_outside_of_the_run_is_not_repeated(since: float) -> None:
    progress = training(told=Told(stage=Stage.EXPORT, since=since)).status["progress"]

    assert progress["stage"] == "Export"
    assert "stageSince" not in progress


def test_a_run_that_broke_is_in_no_stage_and_its_message_names_the_one_that_it_was_in() -> None:
    run = make_run(RunState.INTERRUPTED, message="step train-evaluate-export was ended with SIGKILL")
    decision = training(run=run, told=told(Stage.EXPORT))

    assert summary(decision).message.startswith(
        "in the stage Export: step train-evaluate-export was ended with SIGKILL"
    )
    assert "stage" not in decision.status["progress"]


def test_what_a_step_says_itself_needs_no_stage() -> None:
    report = Report(failure={"reason": "ParityFailed", "message": "it differs"})

    assert summary(training(RunState.FAILED, report=report, told=told(Stage.EXPORT))).message == "it differs"


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING])
def test_of_another_attempt_nothing_of_the_one_before_is_left(state: RunState) -> None:
    stated = OfDataset(stage="CheckingImages", stages=[])
    seen = builders.make_dataset_observed(run=make_run(state, attempt=2, attempts_with_key=2), stated=stated)

    assert dataset.decide(seen).status["progress"] is None


def test_a_dataset_says_how_many_images_were_checked() -> None:
    seen = builders.make_dataset_observed(
        run=make_run(RunState.RUNNING),
        told=Told(stage=Stage.CHECKING_IMAGES, since=NOW.timestamp(), done=30, total=120),
    )
    decision = dataset.decide(seen)

    assert summary(decision).message == "images are being checked"
    assert decision.status["progress"] == {
        "stage": "CheckingImages",
        "stageSince": "2026-03-01T12:00:00Z",
        "stagePercent": 25,
        "imagesDone": 30,
        "imagesTotal": 120,
    }


def test_epochs_stay_known_while_the_tracking_server_is_away() -> None:
    stated = Progress(epoch=7, epochs=10, percent=70, stage="Training")
    found = training(tracked=None, tracking_outage="away", stated=stated, told=told(Stage.TRAINING, done=8, total=10))

    assert (found.status["progress"]["epoch"], found.status["progress"]["stagePercent"]) == (7, 80)


def test_registration_is_a_stage_from_the_end_of_the_run_until_it_is_done() -> None:
    registering = training_run.decide(builders.trained(told=told(None)))
    progress = registering.status["progress"]
    assert (progress["stage"], progress["stageSince"]) == ("Registration", "2026-03-01T12:00:00Z")

    stated = Progress.model_validate(progress)
    later = NOW + timedelta(seconds=3)
    seen = builders.trained(told=told(None), stated=stated, version=builders.model_version(), time_of_day=later)
    progress = training_run.decide(seen).status["progress"]
    assert "stage" not in progress
    assert progress["stages"] == [*STATED, {"stage": "Registration", "seconds": 3}]

    seen = builders.trained(stated=Progress.model_validate(progress), version=builders.model_version())
    assert training_run.decide(seen).status["progress"] == progress, "nobody asks the steps again"
