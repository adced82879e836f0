"""A search for hyperparameters: requested as in the spec, reported while it runs, and known however the run ends."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import (
    NOW,
    dataset_seen,
    dataset_version,
    make_run,
    make_tracked,
    make_training_observed,
    trained,
    training_result,
    training_run_spec,
)
from pelagos.decisions import training_run
from pelagos.decisions.effects import CancelRun, SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity, progress
from pelagos.decisions.verdicts import summary
from pelagos.ports.pipelines import RunState
from pelagos_contract.progress import Progress, Stage
from pelagos_contract.search import SearchProgress, Trial, TrialState
from pelagos_contract.training import TrainingRequest

SEARCH = {
    "method": "Tpe",
    "trials": 5,
    "epochs": 4,
    "space": {
        "learningRate": {"minimum": "0.0001", "maximum": "0.1", "scale": "Log"},
        "batchSize": {"values": [8, 16]},
    },
    "pruning": {},
}
TOLD = SearchProgress(
    metric="validation/mAP50-95",
    trials=5,
    best=0,
    history=[
        Trial(number=0, state=TrialState.COMPLETED, parameters={"batchSize": "8"}, epochs=4, value=0.5),
        Trial(number=1, state=TrialState.PRUNED, parameters={"batchSize": "16"}, epochs=2, value=0.1),
        Trial(
            number=2,
            state=TrialState.FAILED,
            parameters={"batchSize": "16"},
            reason="OutOfMemory",
            message="memory ran out",
        ),
        Trial(number=3, state=TrialState.RUNNING, parameters={"batchSize": "8"}, epochs=1, value=0.25),
    ],
)


def searching(**changes: Any) -> Any:
    spec, candidate = training_run_spec(search=SEARCH), dataset_version()
    usual: dict[str, Any] = {
        "spec": spec,
        "frozen": identity.freeze(spec, candidate),
        "tracked": make_tracked(),
        "dataset": dataset_seen(candidate=candidate),
    }
    return make_training_observed(**usual | changes)


def test_the_search_arrives_as_spec_has_it() -> None:
    (effect,) = training_run.decide(searching()).effects
    assert isinstance(effect, SubmitRun)
    request = TrainingRequest.model_validate_json(effect.request.parameters["request"])

    assert request.search is not None
    assert request.search.written() == SEARCH


def test_a_run_without_a_search_asks_for_none_and_keeps_its_digest() -> None:
    spec = training_run_spec()
    assert "search" not in identity.inputs(spec)
    seen = searching(spec=spec, frozen=identity.freeze(spec, dataset_version()))
    (effect,) = training_run.decide(seen).effects
    assert isinstance(effect, SubmitRun)
    assert "search" not in json.loads(effect.request.parameters["request"])


def test_trials_are_told_with_the_best_one_while_it_goes_on() -> None:
    told = Progress(stage=Stage.SEARCH, search=TOLD, done=9, total=20)
    decision = training_run.decide(
        searching(run=make_run(RunState.RUNNING), told=told, tracked=make_tracked(metrics={"progress/epoch": 9.0}))
    )

    found = decision.status["search"]
    assert {name: found[name] for name in ("trials", "finished", "pruned", "failed")} == {
        "trials": 5,
        "finished": 3,
        "pruned": 1,
        "failed": 1,
    }
    assert found["best"] == {"number": 0, "value": "0.5000", "parameters": {"batchSize": "8"}}
    assert [trial["state"] for trial in found["history"]] == ["Completed", "Pruned", "Failed", "Running"]
    assert found["history"][2]["reason"] == "OutOfMemory"
    assert summary(decision).reason == "Searching"
    assert summary(decision).message.startswith("trial 4 of 5; the best has validation/mAP50-95 0.5000")
    # Five trials of four epochs, and the training of ten that follows.
    assert (decision.status["progress"]["epoch"], decision.status["progress"]["epochs"]) == (9, 30)


def test_what_was_found_stays_known_when_the_deadline_ends_the_run() -> None:
    late = make_run(RunState.RUNNING, started_at=NOW - timedelta(hours=30))
    decision = training_run.decide(searching(run=late, told=Progress(stage=Stage.SEARCH, search=TOLD)))
    assert [type(effect) for effect in decision.effects if isinstance(effect, CancelRun)] == [CancelRun]
    stated = progress.search_status(TOLD)
    ended = make_run(RunState.CANCELED, started_at=NOW - timedelta(hours=30), finished_at=NOW)
    after = training_run.decide(searching(run=ended, stated_search=stated))

    assert summary(after).reason == "DeadlineExceeded"
    for each in (decision, after):
        assert each.status["search"]["best"]["parameters"] == {"batchSize": "8"}


def test_what_was_found_stays_known_while_the_run_is_suspended() -> None:
    spec = training_run_spec(search=SEARCH, suspend=True)
    run, told = make_run(RunState.RUNNING), Progress(stage=Stage.SEARCH, search=TOLD)
    decision = training_run.decide(searching(spec=spec, run=run, told=told))

    assert summary(decision).reason == "Suspended"
    assert CancelRun in map(type, decision.effects)
    assert decision.status["search"]["best"]["number"] == 0


def test_the_result_has_the_whole_search() -> None:
    spec = training_run_spec(search=SEARCH)
    result = training_result() | {"search": json.loads(TOLD.model_dump_json(by_alias=True))}
    seen = trained(spec=spec, frozen=identity.freeze(spec, dataset_version()), report=Report(result=result))

    assert training_run.decide(seen).status["search"]["finished"] == 3


@pytest.mark.parametrize(
    ("architecture", "metric", "is_known"),
    [
        ("yolov8n", "validation/mAP50", True),
        ("yolov8n", "validation/loss", False),
        ("mobilenet_v3_small", "validation/loss", True),
        ("yolov8n", "validation/accuracy", False),
        ("mobilenet_v3_small", "validation/accuracy", True),
        ("mobilenet_v3_small", "validation/mAP50", False),
        ("yolov8n-obb", "validation/recall", True),
        ("mask2former_tiny-semantic", "validation/Dice", True),
        ("mask2former_tiny-panoptic", "validation/SQ", False),
    ],
)
def test_a_search_by_a_metric_that_is_not_measured_is_refused_before_anything_is_made(
    architecture: str, metric: str, is_known: bool
) -> None:
    spec = training_run_spec(search=SEARCH | {"metric": metric}, model={"architecture": architecture})
    decision = training_run.decide(make_training_observed(spec=spec))
    found = builders.conditions(decision)["DatasetReady"]

    assert (found == ("Refused", "InvalidSpec")) is not is_known
    if not is_known:
        assert not decision.effects
        assert summary(decision).message.startswith(
            f"spec.search.metric: {metric} is not measured for {architecture} after each epoch; allowed: validation/"
        )


def test_a_test_metric_is_no_metric_of_a_search() -> None:
    with pytest.raises(ValueError, match="metric"):
        training_run_spec(search=SEARCH | {"metric": "test/mAP50"})


@pytest.mark.parametrize(
    "changes",
    [
        {"space": {"lr": {"values": ["0.1"]}}},
        {"space": {"learningRate": {"minimum": 0.0001, "maximum": 0.1}}},
        {"space": {"optimizer": {"values": ["Adam"]}}},
        {"space": {"batchSize": {"values": []}}},
        {"trials": 101},
        {"trials": 0},
        {"method": "Cmaes"},
    ],
    ids=["unknown key", "floats", "unknown optimiser", "nothing", "too many", "none", "unknown method"],
)
def test_what_a_search_cannot_say_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="search"):
        training_run_spec(search=SEARCH | changes)
