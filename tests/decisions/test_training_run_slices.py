"""Status says how certain metrics are and which slice is worst, or why neither is known; older results have neither."""

from __future__ import annotations

from typing import Any

import pytest

from builders import dataset_seen, make_training_observed, trained, training_result, training_run_spec
from pelagos.decisions import training_run
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import figures
from pelagos.decisions.verdicts import summary
from pelagos_contract.training import TrainingResult

INTERVALS = {
    "test/mAP50": {"low": 0.7512, "high": 0.8423},
    "slice/site/faial bank/mAP50": {"low": 0.25, "high": 0.375},
}
RESAMPLING: dict[str, Any] = {"by": "deployment", "groups": 23, "level": 0.95, "samples": 2000, "why": None}


def one(value: str | None, images: int) -> dict[str, Any]:
    return {"value": value, "images": images, "objects": 3 * images, "by": "image", "groups": images}


def sliced(worst: str | None = "faial bank") -> dict[str, Any]:
    """A result with two fields of slices; of the second one the worst is not known."""
    found = training_result()
    found["metrics"] |= {
        "slice/site/azores/mAP50": 0.8,
        "slice/site/faial bank/mAP50": 0.3,
        "slice/site/:unknown/mAP50": 0.1,
        "slice/hour/08/mAP50": None,
        "worst/site/mAP50": 0.3,
        "worst/site/recall": 0.2,
        "worst/hour/mAP50": None,
    }
    fields = [
        {
            "field": "site",
            "metric": "mAP50",
            "slices": [one("azores", 40), one("faial bank", 12), one(None, 5)],
            "worst": worst,
        },
        {"field": "hour", "metric": "mAP50", "slices": [one("08", 57)], "worst": None},
    ]
    return found | {"intervals": INTERVALS, "resampling": RESAMPLING, "slices": fields}


def status_of(result: dict[str, Any]) -> dict[str, Any]:
    spec = training_run_spec(gates=[])
    status = training_run.decide(trained(spec=spec, report=Report(result=result))).status
    return {name: value for name, value in status.items() if value is not None}


def test_the_result_of_a_step_is_what_is_understood() -> None:
    TrainingResult.model_validate(sliced())


def test_the_figure_of_a_table_has_its_interval() -> None:
    status = status_of(sliced())
    assert status["primaryMetric"] == "mAP50 0.800 (0.751–0.842)"
    assert status["intervals"] == {"test/mAP50": {"low": "0.7512", "high": "0.8423", "level": "0.95"}}
    assert status["resampling"] == {"by": "deployment", "groups": 23, "samples": 2000}


def test_the_worst_slice_of_each_field_is_told_with_what_it_is_made_of() -> None:
    status = status_of(sliced())
    worst = {
        "value": "faial bank",
        "metric": "mAP50",
        "figure": "0.3000",
        "interval": {"low": "0.2500", "high": "0.3750", "level": "0.95"},
        "images": 12,
        "objects": 36,
    }
    assert status["slices"] == [
        {"field": "site", "slices": 2, "unknown": 5, "worst": worst},
        {"field": "hour", "slices": 1},
    ]
    assert status["worstSlice"] == "site faial bank: mAP50 0.300 (0.250–0.375), n = 12"


def test_of_slices_figures_have_the_worst_main_metric_alone() -> None:
    assert status_of(sliced())["metrics"] == {
        "test/mAP50": "0.8000",
        "test/mAP50-95": "0.4000",
        "worst/site/mAP50": "0.3000",
    }


def test_without_a_worst_slice_nothing_stands_for_one() -> None:
    status = status_of(sliced(worst=None))
    assert "worstSlice" not in status
    assert "worst" not in status["slices"][0]


def test_where_there_are_no_intervals_it_is_said_why() -> None:
    why = "there are 3 different values of site, and an interval needs 5"
    told = {"by": "site", "groups": 3, "level": 0.95, "samples": 0, "why": why}
    status = status_of(training_result() | {"intervals": {}, "resampling": told})
    assert status["resampling"] == {"by": "site", "groups": 3, "samples": 0, "why": why}
    assert "intervals" not in status
    assert status["primaryMetric"] == "mAP50 0.800"


def test_of_several_seeds_the_deviation_is_told_and_not_the_interval() -> None:
    result = sliced() | {"deviations": {"test/mAP50": 0.1}}
    assert figures.primary_metric(result) == "mAP50 0.800 ± 0.100"


@pytest.mark.parametrize(
    ("slices", "captured", "missing"),
    [
        (["site", "depthBand"], ("site", "time"), "names depthBand, and no image of"),
        (["positionBand"], ("latitude",), "has a longitude by its spec.capture, which knows of latitude"),
        (["site"], (), "has a site by its spec.capture, which knows of nothing"),
        (["month", "group"], ("time",), None),
        (["site"], None, None),
        (None, (), None),
    ],
)
def test_slices_that_no_image_has_a_value_for_are_refused_before_anything_is_made(
    slices: list[str] | None, captured: tuple[str, ...] | None, missing: str | None
) -> None:
    spec = training_run_spec(evaluation={"slices": slices} if slices else {})
    decision = training_run.decide(make_training_observed(spec=spec, dataset=dataset_seen(captured=captured)))
    if missing is None:
        assert decision.effects, "it goes on"
        return
    assert not decision.effects
    told = summary(decision)
    assert (told.reason, missing in told.message) == ("SlicesImpossible", True)


def test_results_of_earlier_releases_have_neither() -> None:
    assert not {"intervals", "resampling", "slices", "worstSlice"} & status_of(training_result()).keys()
