"""A gate that names a champion passes by the interval of the difference, and only by a comparison with the current version."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import builders
from builders import (
    make_run,
    make_tracked,
    make_training_observed,
    model_version,
    trained,
    training_result,
    training_run_spec,
)
from pelagos.api.training_run import ModelStatus
from pelagos.decisions import training_run
from pelagos.decisions.effects import RegisterModel, SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import champions
from pelagos.decisions.training_run.observed import Champion
from pelagos.decisions.verdicts import Decision, summary
from pelagos.ports.pipelines import RunState
from pelagos_contract.tags import INSTEAD_OF_TAG, NOBODY

NAME = "detector@champion"
THIRD = Champion("3", evidence_uri="/objects/three.npz", evidence_sha256="sha256:three")
EVIDENCE = {"uri": "/objects/ours.npz", "sha256": "sha256:ours", "test": "sha256:test"}


def compared(low: float | None = 0.01, high: float | None = 0.05, version: str = "3", **changes: Any) -> dict[str, Any]:
    known = {"value": 0.8, "champion": 0.77, "low": low, "high": high}
    return {"name": NAME, "version": version, "level": 0.95, "metrics": {"mAP50": known}, **changes}


def seen(
    found: dict[str, Any] | None, champion: dict[str, Any] | None = None, metric: str = "mAP50", **changes: Any
) -> Any:
    spec = training_run_spec(gates=[{"metric": metric, "champion": champion or {}}])
    result = training_result() | {"evidence": EVIDENCE, "champions": [found] if found else []}
    return trained(**{"spec": spec, "report": Report(result=result), "champions": {NAME: THIRD}, **changes})


def decide(found: dict[str, Any] | None, champion: dict[str, Any] | None = None, **changes: Any) -> Decision:
    return training_run.decide(seen(found, champion, **changes))


@pytest.mark.parametrize(
    ("low", "high", "champion", "passed"),
    [
        (0.001, 0.05, {"require": "Better"}, True),
        (0.0, 0.05, {"require": "Better"}, False),
        (-0.009, 0.05, {}, True),
        (-0.01, 0.05, {}, True),
        (-0.0101, 0.05, {}, False),
        (-0.02, 0.05, {"tolerance": "0.02"}, True),
        (0.0, 0.0, {"tolerance": "0"}, True),
        (0.7 - 0.75, 0.3, {"tolerance": "0.05"}, True),
        (-0.3, -0.2, {"require": "NotWorse"}, False),
    ],
)
def test_the_lower_end_of_the_interval_decides(low: float, high: float, champion: dict[str, Any], passed: bool) -> None:
    decision = decide(compared(low, high), champion)

    (gate,) = decision.status["gates"]
    assert gate["passed"] is passed
    assert any(isinstance(effect, RegisterModel) for effect in decision.effects) is passed


@pytest.mark.parametrize(("low", "high", "passed"), [(-0.05, -0.01, True), (-0.05, 0.009, True), (0.0, 0.011, False)])
def test_of_losses_and_errors_less_is_better(low: float, high: float, passed: bool) -> None:
    known = {"value": 0.3, "champion": 0.32, "low": low, "high": high}
    spec = training_run_spec(gates=[{"metric": "loss", "champion": {}}])
    decision = decide(compared(metrics={"loss": known}), spec=spec)

    assert decision.status["gates"][0]["passed"] is passed
    said = "all of the interval must be below 0.01: a larger test split would show more"
    assert (said in summary(decision).message) is not passed


def test_a_miss_says_both_values_the_interval_and_whether_more_images_would_help() -> None:
    wide, far = (summary(decide(compared(low, 0.05))).message for low in (-0.02, -0.02))
    assert wide == far
    assert wide.startswith(
        "spec.gates[0].champion: test/mAP50 is 0.8000, and 0.7700 of version 3 of 'detector': a difference of +0.0300 (95 % "
        "interval -0.0200 to +0.0500); all of the interval must be above -0.01: a larger test split would show more. "
    )
    assert ": it needs a better model. " in summary(decide(compared(-0.3, -0.2))).message


@pytest.mark.parametrize(
    ("found", "reason", "want"),
    [
        (
            compared(why="its task is another"),
            "ChampionNotComparable",
            "version 3 of 'detector' cannot be compared: its task",
        ),
        (
            compared(None, None, noInterval="there are 2 sites"),
            "ChampionNotComparable",
            "more than chance: there are 2 sites",
        ),
        (compared(metrics={}), "GateMetricUnknown", "models are not compared by mAP50"),
        (
            compared(metrics={"mAP50": {"value": 0.8, "champion": None}}),
            "GateMetricUnknown",
            "mAP50 is undefined for one of",
        ),
    ],
)
def test_what_cannot_be_compared_passes_nobody_and_says_why(found: dict[str, Any], reason: str, want: str) -> None:
    decision = decide(found)

    assert summary(decision).reason == reason
    assert want in summary(decision).message
    assert decision.status["gates"][0]["passed"] is False
    assert not decision.effects


@pytest.mark.parametrize("found", [None, compared(version="2")], ids=["with none", "with another"])
def test_a_comparison_with_another_version_is_made_again_by_a_further_attempt(found: dict[str, Any] | None) -> None:
    decision = decide(found)

    (effect,) = (effect for effect in decision.effects if isinstance(effect, SubmitRun))
    assert effect.request.attempt == 2
    assert json.loads(effect.request.parameters["request"])["champions"] == [
        {"name": NAME, "version": "3", "evidenceUri": "/objects/three.npz", "evidenceSha256": "sha256:three"}
    ]
    assert summary(decision).reason == "Comparing"


def test_a_further_attempt_says_that_it_compares_and_not_that_it_trains() -> None:
    published = ModelStatus(uri="/objects/model", onnx_sha256=builders.ONNX)
    run = make_run(RunState.RUNNING, attempt=2)
    tracked = make_tracked(metrics={"progress/epoch": 10.0})
    decision = training_run.decide(seen(None, run=run, published=published, tracked=tracked, report=Report()))

    assert summary(decision).reason == "Comparing"


def test_it_is_not_made_again_for_ever() -> None:
    run = make_run(RunState.SUCCEEDED, attempt=20, attempts_with_key=champions.MOST_ATTEMPTS)
    decision = decide(compared(version="2"), run=run)

    assert decision.effects == ()
    assert summary(decision).reason == "ChampionChanged"
    assert (
        "is now version 3, and the model was compared with version 2; set pelagos.dev/retry"
        in summary(decision).message
    )
    assert decide(compared(version="2"), run=run, retry_key="again").effects != ()


def test_a_result_of_a_former_life_is_not_trained_again_for_another_champion() -> None:
    decision = decide(compared(version="2"), run=None)

    assert decision.effects == ()
    assert summary(decision).reason == "ChampionChanged"
    assert "create a new TrainingRun" in summary(decision).message


def test_it_is_registered_instead_of_the_version_that_it_was_compared_with_and_with_its_evidence() -> None:
    (effect,) = decide(compared()).effects

    assert isinstance(effect, RegisterModel)
    assert effect.want.instead_of == effect.want.tags[INSTEAD_OF_TAG] == "3"
    assert effect.want.tags["pelagos.dev/evidence-uri"] == "/objects/ours.npz"
    assert effect.want.tags["pelagos.dev/evidence-sha256"] == "sha256:ours"


def test_the_first_model_of_a_name_passes_and_is_registered_instead_of_nobody() -> None:
    decision = decide(None, champions={NAME: None})

    (effect,) = decision.effects
    assert isinstance(effect, RegisterModel)
    assert effect.want.instead_of == NOBODY
    (gate,) = decision.status["gates"]
    assert gate == {"metric": "test/mAP50", "value": "0.8000", "champion": {"model": "detector"}, "passed": True}


def test_a_gate_against_another_model_leaves_the_alias_to_whoever_has_it() -> None:
    other = {"model": "baseline", "version": 7}
    found = {**compared(version="7"), "name": "baseline/7"}
    (effect,) = decide(found, other, champions={"baseline/7": replace(THIRD, version="7")}).effects

    assert isinstance(effect, RegisterModel)
    assert effect.want.instead_of is None
    assert INSTEAD_OF_TAG not in effect.want.tags


def test_a_model_that_is_registered_stands_by_what_it_was_compared_with() -> None:
    version = model_version(version="4", tags={**model_version().tags, INSTEAD_OF_TAG: "3"})

    assert decide(compared(), version=version, champions={}).status["gates"][0]["passed"] is True
    assert decide(compared(-0.5, -0.4), version=version, champions={}).status["gates"][0]["passed"] is False
    later = decide(compared(-0.5, -0.4, version="2"), version=version, champions={})
    assert later.status["gates"][0]["passed"] is True, "on record is an earlier comparison than that which it passed by"


def test_a_gate_that_came_after_the_registration_is_not_said_to_have_passed() -> None:
    decision = decide(None, version=model_version(version="4"), champions={})

    assert summary(decision).reason == "ChampionChanged"
    assert "the model was registered before this gate, as version 4; create a new one" in summary(decision).message


def test_the_first_model_stays_the_first_when_another_one_takes_its_place() -> None:
    version = model_version(version="1", tags={**model_version().tags, INSTEAD_OF_TAG: NOBODY})

    assert builders.conditions(decide(None, version=version, champions={}))["GatesPassed"] == ("Done", "GatesPassed")


@pytest.mark.parametrize("metric", ["confidence", "ECE"])
def test_what_models_are_not_compared_by_is_refused_before_anything_is_made(metric: str) -> None:
    spec = training_run_spec(gates=[{"metric": metric, "champion": {}}])
    decision = training_run.decide(make_training_observed(spec=spec))

    assert decision.effects == ()
    assert summary(decision).reason == "GateMetricUnknown"


def test_an_outage_of_the_registry_leaves_it_open_unless_it_is_registered() -> None:
    away: dict[str, Any] = {"registry_outage": "registry: refused", "champions": {}}
    published = ModelStatus(uri="/objects/model", onnx_sha256=builders.ONNX, name="detector", version="4")

    open_ = decide(compared(), **away)
    assert builders.conditions(open_)["GatesPassed"] == ("Unknown", "RegistryUnavailable")
    assert (open_.effects, open_.recheck_after) == ((), 5)
    assert builders.conditions(decide(compared(), **away, published=published))["GatesPassed"][0] == "Done"


def test_a_champion_of_which_nothing_is_known_is_refused_before_anything_is_made() -> None:
    spec = training_run_spec(gates=[{"metric": "mAP50", "champion": {}}])
    doubtful = replace(THIRD, doubt="it is not known what it does")
    decision = training_run.decide(make_training_observed(spec=spec, champions={NAME: doubtful}))

    assert decision.effects == ()
    assert summary(decision).reason == "ChampionNotComparable"
    assert summary(decision).message.startswith(
        "spec.gates[0].champion: it is not known what it does. Correct spec.gates; "
    )


def test_the_first_attempt_is_told_whom_to_compare_with() -> None:
    spec = training_run_spec(gates=[{"metric": "mAP50", "champion": {}}, {"metric": "F1", "champion": {}}])
    frozen = builders.frozen_inputs()
    found = make_training_observed(spec=spec, frozen=frozen, tracked=make_tracked(), champions={NAME: THIRD})
    (effect,) = training_run.decide(found).effects

    assert isinstance(effect, SubmitRun)
    assert [each["version"] for each in json.loads(effect.request.parameters["request"])["champions"]] == ["3"]
