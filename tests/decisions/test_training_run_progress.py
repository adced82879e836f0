"""The progress of a training, as its tracked run reports it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

import builders
from builders import NOW, make_run, make_tracked
from pelagos.api.training_run import Progress
from pelagos.decisions import training_run
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import progress
from pelagos.ports.pipelines import RunState

RUNNING = make_run(RunState.RUNNING)
PACE = "progress/seconds_per_epoch"


def told(metrics: Mapping[str, float], *, epochs: int = 10, state: RunState = RunState.RUNNING) -> object:
    found = progress.progress(make_tracked(metrics=metrics), epochs, make_run(state), NOW)
    return found.written() if found is not None else None


def test_there_is_none_before_the_first_epoch_ends() -> None:
    assert told({}) is None
    assert progress.progress(None, 10, RUNNING, NOW) is None
    assert progress.progress(make_tracked(metrics={"progress/epoch": 1.0}), 10, None, NOW) is None


@pytest.mark.parametrize(("epoch", "epochs", "percent"), [(0, 10, 0), (1, 3, 33), (10, 10, 100), (12, 10, 100)])
def test_it_counts_epochs(epoch: float, epochs: int, percent: int) -> None:
    assert told({"progress/epoch": epoch}, epochs=epochs) == {
        "epoch": epoch,
        "epochs": epochs,
        "percent": percent,
    }


def test_the_end_is_estimated_from_the_pace_in_whole_minutes() -> None:
    found = told({"progress/epoch": 4, PACE: 25.0})

    assert isinstance(found, dict)
    assert found["eta"] == "2026-03-01T12:03:00Z"


def test_a_look_a_second_later_says_the_same() -> None:
    tracked = make_tracked(metrics={"progress/epoch": 4, PACE: 25.0})

    looks = [progress.progress(tracked, 10, RUNNING, NOW + timedelta(seconds=later)) for later in (1, 2, 29)]

    assert looks[0] == looks[1] == looks[2]


def test_a_run_that_has_ended_has_no_estimate() -> None:
    found = told({"progress/epoch": 4, PACE: 25.0}, state=RunState.FAILED)

    assert isinstance(found, dict)
    assert "eta" not in found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -5.0])
def test_figures_that_make_no_sense_are_left_out(value: float) -> None:
    assert told({"progress/epoch": 4, PACE: value}) == {"epoch": 4, "epochs": 10, "percent": 40}
    assert told({"progress/epoch": value}) is None


def test_it_shows_in_the_reason_and_message() -> None:
    seen = builders.make_training_observed(
        frozen=builders.frozen_inputs(), tracked=make_tracked(metrics={"progress/epoch": 4}), run=RUNNING
    )

    decision = training_run.decide(seen)

    assert builders.conditions(decision)["Evaluated"] == ("Progressing", "Training")
    assert next(verdict for verdict in decision.verdicts if verdict.type == "Evaluated").message == "epoch 4 of 10"


def test_while_an_interrupted_training_is_healed_it_has_not_failed_for_good() -> None:
    seen = builders.make_training_observed(
        frozen=builders.frozen_inputs(), tracked=make_tracked(), run=make_run(RunState.INTERRUPTED)
    )

    found = builders.conditions(training_run.decide(seen))

    assert found["Evaluated"] == ("Failing", "PipelineInterrupted")
    assert found["Succeeded"] == ("Progressing", "PipelineInterrupted")


def test_a_refused_training_has_failed() -> None:
    seen = builders.make_training_observed(
        frozen=builders.frozen_inputs(),
        tracked=make_tracked(),
        run=make_run(RunState.FAILED),
        report=Report(failure={"reason": "DiskFull", "message": "no space"}),
    )

    assert builders.conditions(training_run.decide(seen))["Succeeded"] == ("Refused", "DiskFull")


def test_what_was_measured_stays_when_a_later_step_refuses() -> None:
    failure = {
        "reason": "ParityFailed",
        "message": "it differs",
        "metrics": {"test/mAP50": 0.97, "test/mAP50/copepod": 0.97, "test/IoU": None},
        "warnings": ["3 of 10 images of the split test show more than 300 objects"],
    }
    seen = builders.make_training_observed(
        frozen=builders.frozen_inputs(),
        tracked=make_tracked(),
        run=make_run(RunState.FAILED),
        report=Report(failure=failure),
    )

    decision = training_run.decide(seen)

    assert builders.conditions(decision)["Evaluated"] == ("Refused", "ParityFailed")
    assert decision.status["metrics"] == {"test/mAP50": "0.9700"}
    assert decision.status["primaryMetric"] == "mAP50 0.970"
    assert decision.status["warnings"] == failure["warnings"]
    assert not {"model", "gates"} & decision.status.keys()


def test_a_refusal_before_the_evaluation_tells_no_figures() -> None:
    seen = builders.make_training_observed(
        frozen=builders.frozen_inputs(),
        tracked=make_tracked(),
        run=make_run(RunState.FAILED),
        report=Report(failure={"reason": "OutOfMemory", "message": "no memory", "metrics": None, "warnings": []}),
    )

    assert not {"metrics", "primaryMetric", "warnings"} & training_run.decide(seen).status.keys()


def test_warnings_of_the_evaluation_are_published() -> None:
    told = builders.training_result() | {"warnings": ["images are crowded"]}

    assert training_run.decide(builders.trained(report=Report(result=told))).status["warnings"] == [
        "images are crowded"
    ]
    assert training_run.decide(builders.trained()).status["warnings"] is None


def test_when_it_started_and_ended_is_published() -> None:
    status = training_run.decide(builders.trained()).status

    assert (status["startedAt"], status["finishedAt"]) == ("2026-03-01T11:59:00Z", "2026-03-01T12:00:00Z")
    assert status["pipelineRun"]["url"] == "http://pipelines/log"


def test_what_the_last_epoch_came_to_is_shown_in_few_digits() -> None:
    metrics = {"train/loss": 0.43219, "validation/loss": 0.5, "validation/mAP50": 0.25, "validation/mAP50/cod": 0.9}
    pace = {"progress/images_per_second": 12.34, "progress/gpu_memory_bytes": 3.2 * 2**30}

    assert told({"progress/epoch": 4} | metrics | pace) == {
        "epoch": 4,
        "epochs": 10,
        "percent": 40,
        "loss": "0.4322",
        "metrics": {"validation/loss": "0.5000", "validation/mAP50": "0.2500"},
        "imagesPerSecond": "12",
        "gpuMemory": "3.2Gi",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1e300])
def test_what_makes_no_sense_of_it_is_left_out(value: float) -> None:
    names = ("train/loss", "validation/loss", "progress/images_per_second", "progress/gpu_memory_bytes")

    assert told({"progress/epoch": 4} | dict.fromkeys(names, value)) == {"epoch": 4, "epochs": 10, "percent": 40}


def test_while_mlflow_is_away_the_last_epoch_stays_as_it_was() -> None:
    stated = Progress(epoch=4, epochs=10, percent=40, loss="0.4322", images_per_second="12", eta="2026-03-01T12:03:00Z")
    seen = builders.make_training_observed(
        frozen=builders.frozen_inputs(), tracking_outage="away", run=RUNNING, stated=stated
    )

    assert training_run.decide(seen).status["progress"] == {
        "epoch": 4,
        "epochs": 10,
        "percent": 40,
        "loss": "0.4322",
        "imagesPerSecond": "12",
    }
