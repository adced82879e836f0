"""A training's cost is in its status: no more precise than it is known, and unknown where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from builders import frozen_inputs, make_run, make_tracked, make_training_observed, trained, training_result
from pelagos.decisions import training_run
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import costs
from pelagos.ports.pipelines import RunState
from pelagos.ports.tracking import Outcome

COST: dict[str, Any] = {
    "seconds": 41.26,
    "cpuSeconds": 82.9,
    "gpuSeconds": 0,
    "kilowattHours": 0.000276,
    "energyMethod": "processors estimated as 12 W for each busy core",
    "grams": 0.1311,
    "gramsPerKwh": 475,
}


def told(**changes: Any) -> dict[str, Any]:
    report = Report(result=training_result() | {"cost": COST | changes})
    found: dict[str, Any] = training_run.decide(trained(report=report)).status["cost"]
    return found


def test_figures_have_two_digits_and_the_method_stands_beside_them() -> None:
    assert told() == {
        "durationSeconds": "about 41",
        "cpuHours": "about 0.023",
        "gpuHours": "0",
        "energy": "about 0.00028 kWh",
        "energyMethod": "processors estimated as 12 W for each busy core",
        "co2": "about 0.13 g",
        "intensity": "475 g/kWh",
        "attempts": 1,
    }


def test_what_is_not_known_is_unknown_and_no_zero() -> None:
    found = told(gpuSeconds=None, kilowattHours=None, grams=None, missing=["the energy of GPUs"])

    assert (found["gpuHours"], found["energy"], found["co2"]) == ("unknown", "unknown", "unknown")
    assert found["missing"] == ["the energy of GPUs"]


def test_where_something_is_missing_the_figures_are_the_least() -> None:
    found = told(attempts=2, missing=["what attempt 1 took after its last note"])

    assert found["energy"] == "at least 0.00028 kWh"
    assert found["gpuHours"] == "at least 0"
    assert found["attempts"] == 2


def test_a_training_that_was_refused_says_what_it_took_too() -> None:
    failure = {"reason": "TrainingDiverged", "message": "the loss became nan", "cost": COST}
    seen = make_training_observed(
        frozen=frozen_inputs(),
        tracked=make_tracked(outcome=Outcome.FAILED),
        run=make_run(RunState.FAILED),
        report=Report(failure=failure),
    )

    assert training_run.decide(seen).status["cost"]["energy"] == "about 0.00028 kWh"


@pytest.mark.parametrize("cost", [None, {}, {"seconds": "many"}, COST | {"kilowattHours": -1}, []])
def test_what_a_release_of_before_or_after_says_otherwise_is_left_out(cost: Any) -> None:
    decision = training_run.decide(trained(report=Report(result=training_result() | {"cost": cost})))

    assert "cost" not in decision.status


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        ("about 0.13 g", 0.13),
        ("at least 12 kWh", 12.0),
        ("0", 0.0),
        ("unknown", None),
        (None, None),
        ("5 nautical", None),
    ],
)
def test_a_figure_can_be_read_back(words: object, amount: float | None) -> None:
    assert costs.amount(words) == amount
