"""Models that each leave out one group of images: requested as in the spec, reported while they train, and known afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import (
    dataset_seen,
    dataset_version,
    make_run,
    make_tracked,
    make_training_observed,
    trained,
    training_result,
    training_run_spec,
)
from pelagos.api.training_run import LeaveOneOutStatus, LeftOutStatus
from pelagos.decisions import training_run
from pelagos.decisions.effects import SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity
from pelagos.decisions.verdicts import Decision, summary
from pelagos.ports.pipelines import RunState
from pelagos_contract.progress import LeftOutProgress, LeftOutState, Progress, SeedState, Stage

ASKED = {"leaveOneOut": "site"}
TOLD = LeftOutProgress(
    field="site",
    groups=[
        LeftOutState(value="azores", state=SeedState.TRAINED, epoch=10),
        LeftOutState(value="madeira", state=SeedState.TRAINING, epoch=3),
        LeftOutState(value="a/b", state=SeedState.WAITING),
    ],
)
FIGURES = {"azores": 0.5, "madeira": 0.7, "a:2Fb": None}


def result() -> dict[str, Any]:
    groups = [{"value": value, "images": 4, "epochs": 10} for value in ("azores", "madeira", "a/b")]
    metrics = {f"leave-one-out/site/{value}/mAP50": figure for value, figure in FIGURES.items()}
    made = training_result()
    return made | {
        "metrics": made["metrics"] | metrics | {"leave-one-out/site/mAP50": 0.6},
        "leaveOneOut": {"field": "site", "metric": "mAP50", "unknown": 2, "groups": groups},
        "deviations": {"leave-one-out/site/mAP50": 0.1414},
    }


def decide(evaluation: dict[str, Any] = ASKED, gates: Any = (), **changes: Any) -> Decision:
    spec, candidate = training_run_spec(evaluation=evaluation, gates=[*gates]), dataset_version()
    usual: dict[str, Any] = {
        "spec": spec,
        "frozen": identity.freeze(spec, candidate),
        "tracked": make_tracked(),
        "dataset": dataset_seen(candidate=candidate),
    }
    return training_run.decide((trained if "report" in changes else make_training_observed)(**usual | changes))


def test_the_step_is_asked_for_it_as_spec_has_it() -> None:
    (effect,) = decide().effects
    assert isinstance(effect, SubmitRun)
    assert json.loads(effect.request.parameters["request"])["evaluation"]["leaveOneOut"] == "site"


def test_status_tells_each_group_while_they_are_trained() -> None:
    told = Progress(stage=Stage.LEAVE_ONE_OUT, left_out=TOLD, done=13, total=30)
    decision = decide(run=make_run(RunState.RUNNING), told=told)

    assert decision.status["leaveOneOut"] == {
        "field": "site",
        "groups": [
            {"value": "azores", "state": "Trained", "epoch": 10},
            {"value": "madeira", "state": "Training", "epoch": 3},
            {"value": "a/b", "state": "Waiting"},
        ],
    }
    assert summary(decision).reason == "Training"
    assert "models that each leave one group out are being trained" in summary(decision).message


def test_what_was_told_last_stays_told() -> None:
    stated = LeaveOneOutStatus(field="site", groups=[LeftOutStatus(value="azores", state="Trained", epoch=10)])
    decision = decide(run=make_run(RunState.RUNNING), stated_left_out=stated)
    assert decision.status["leaveOneOut"] == stated.written()


def test_a_result_says_what_each_group_and_their_mean_came_to() -> None:
    assert decide(report=Report(result=result())).status["leaveOneOut"] == {
        "field": "site",
        "metric": "mAP50",
        "mean": "0.6000",
        "deviation": "0.1414",
        "unknown": 2,
        "groups": [
            {"value": "azores", "state": "Evaluated", "epoch": 10, "images": 4, "metric": "0.5000"},
            {"value": "madeira", "state": "Evaluated", "epoch": 10, "images": 4, "metric": "0.7000"},
            {"value": "a/b", "state": "Evaluated", "epoch": 10, "images": 4},
        ],
    }


@pytest.mark.parametrize(
    ("metric", "minimum", "passes"),
    [
        ("leave-one-out/site/mAP50", "0.6", True),
        ("leave-one-out/site/mAP50", "0.61", False),
        ("leave-one-out/site/azores/mAP50", "0.5", True),
        ("leave-one-out/site/a:2Fb/mAP50", "0", False),
    ],
)
def test_gates_judge_the_mean_and_single_groups(metric: str, minimum: str, passes: bool) -> None:
    gate = {"metric": metric, "minimum": minimum}
    (outcome,) = decide(gates=[gate], report=Report(result=result())).status["gates"]
    assert outcome["passed"] is passes


@pytest.mark.parametrize("evaluation", [{}, {"leaveOneOut": "depthBand"}])
def test_a_gate_on_a_field_that_is_not_left_out_is_refused_before_anything_is_trained(
    evaluation: dict[str, Any],
) -> None:
    decision = decide(evaluation, [{"metric": "leave-one-out/site/mAP50", "minimum": "0.5"}])
    assert not [effect for effect in decision.effects if isinstance(effect, SubmitRun)]
    assert summary(decision).reason == "GateMetricUnknown"
    assert "set spec.evaluation.leaveOneOut: site" in summary(decision).message
