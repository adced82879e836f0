"""Expectations of spec.bias about slices lead to warnings, and stop nothing."""

from __future__ import annotations

from typing import Any

import builders
from builders import make_dataset_observed, make_run, preparation_result
from pelagos.decisions import dataset
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, Decision, summary
from pelagos.ports.pipelines import RunState

SITE: dict[str, Any] = {
    "name": "site",
    "values": 3,
    "images": 100,
    "unknown": 0,
    "effective": "1.5",
    "missing": 0,
    "combinations": 6,
    "association": "0.120",
    "probability": "0.005",
    "smallest": [
        {"value": "azores", "images": 4},
        {"value": "faroe", "images": 5},
        {"value": "bight", "images": 91},
    ],
}


def decided(bias: builders.Yaml | None, *slices: dict[str, Any], **result: Any) -> Decision:
    spec = builders.dataset_spec() if bias is None else builders.dataset_spec(bias=bias)
    report = Report(result=preparation_result(slices=list(slices), **result))
    return dataset.decide(make_dataset_observed(spec=spec, run=make_run(RunState.SUCCEEDED), report=report))


def test_slices_are_told_and_nothing_is_said_of_them_unless_asked_for() -> None:
    decision = decided(None, SITE)

    assert decision.status["slices"] == [SITE]
    assert decision.status["warnings"] is None


def test_values_below_the_share_are_named_and_the_dataset_is_ready_all_the_same() -> None:
    decision = decided({}, SITE)

    (warning,) = decision.status["warnings"]
    assert warning == (
        "spec.bias.minShare: 1 of 3 values of site have less than 0.05 of the 100 images: azores (4); a model may fail there "
        "unnoticed: add images with these values"
    )
    assert summary(decision).state is ConditionState.DONE


def test_missing_combinations_and_images_of_which_nothing_is_known_are_told() -> None:
    decision = decided({"minShare": "0"}, SITE | {"missing": 2, "unknown": 7})

    assert decision.status["warnings"] == [
        "spec.bias: 2 of 6 combinations of class and site have no image; see the version's report",
        "spec.bias: site is not known for 7 of 107 images",
    ]


def test_only_the_slices_that_are_named_are_looked_at_and_one_that_is_not_there_is_told() -> None:
    decision = decided({"slices": ["hour", "depth"]}, SITE, SITE | {"name": "hour"})

    assert [warning.partition(":")[0] for warning in decision.status["warnings"]] == [
        "spec.bias.slices",
        "spec.bias.minShare",
    ]
    assert 'this version has no slice "depth"; it has site, hour' in decision.status["warnings"][0]


def test_a_slice_may_be_named_as_fields_are_written() -> None:
    decision = decided({"slices": ["depthBand"]}, SITE | {"name": "depth band"}, SITE)

    assert [warning.partition(" of depth band ")[1] for warning in decision.status["warnings"]] == [" of depth band "]


def test_a_list_that_names_the_smallest_values_alone_says_at_least() -> None:
    few = [{"value": str(number), "images": 1} for number in range(10)]

    (warning,) = decided({}, SITE | {"values": 400, "smallest": few}).status["warnings"]

    assert "at least 10 of 400 values of site" in warning


def test_the_report_is_linked_only_where_it_stands_in_the_version() -> None:
    assert decided(None, report="/objects/v1/report/report.html").status["report"] == "/objects/v1/report/report.html"
    assert decided(None, report="javascript:alert(1)").status["report"] is None
    assert decided(None).status["report"] is None
