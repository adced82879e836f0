"""A preparation's measurements are in the status of its Dataset: as text, bounded, and absent where nothing was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import NOW, make_dataset_observed, make_run, preparation_result
from pelagos.decisions import bounds, dataset
from pelagos.decisions.reports import Report
from pelagos.ports.pipelines import RunState
from pelagos.reconcilers import reporting
from pelagos_contract import class_names
from pelagos_contract.capture import CAPTURE_FIELDS, CaptureFault
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.taxonomy import MOST_SUGGESTIONS

MEASURED = {"measure": "sharpness", "least": "0.4", "low": "3", "median": "120", "high": "800", "most": "2100"}
STATISTICS = {"mean": ["0.41", "0.38", "0.3"], "deviation": ["0.1", "0.2", "0.25"]}


def status(**result: Any) -> dict[str, Any]:
    report = Report(result=preparation_result(**result))
    return dict(dataset.decide(make_dataset_observed(run=make_run(RunState.SUCCEEDED), report=report)).status)


def test_measures_and_statistics_are_shown() -> None:
    found = status(measured=[MEASURED], statistics=STATISTICS)

    assert (found["measured"], found["statistics"]) == ([MEASURED], STATISTICS)


def test_what_a_register_of_names_told_is_shown_and_bounded() -> None:
    unknown = [
        {"name": f"thing {number}", "why": "no taxon is called so", "suggestions": ["x" * 999]} for number in range(90)
    ]
    parts = [{"name": f"cod {number}", "aphiaId": 126436, "annotations": 2} for number in range(30)]
    rolled = [{"name": "Gadidae", "aphiaId": 125469, "of": parts}]
    told = {
        "authority": "WoRMS",
        "source": "https://worms.example",
        "taxa": 1,
        "unknown": unknown,
        "rolledUp": rolled,
        "later": 1,
    }

    found = status(taxonomy=told, classes=[{"name": "Gadidae", "images": 3, "annotations": 4, "aphiaId": 125469}])

    shown = found["taxonomy"]
    assert (len(shown["unknown"]), len(shown["rolledUp"][0]["of"])) == (bounds.MOST_NAMES, bounds.MOST_PARTS)
    assert len(shown["unknown"][0]["suggestions"][0]) == bounds.LONGEST
    assert [(each["field"], each["shown"], each["total"]) for each in found["truncated"]] == [
        ("taxonomy.unknown", bounds.MOST_NAMES, 90),
        ("taxonomy.rolledUp[].of", bounds.MOST_PARTS, 30),
    ]
    assert found["classes"][0]["aphiaId"] == 125469


@pytest.mark.parametrize("letter", ["x", "\u9b5a", "\U0001f41f"])
def test_all_that_suppliers_chose_has_room_in_one_object_whatever_the_script(letter: str) -> None:
    name, words = letter * class_names.LONGEST, letter * 2000
    classes = [{"name": name, "images": 3, "annotations": 4, "aphiaId": 125469}] * 500
    parts = [{"name": name, "aphiaId": 126436, "annotations": 2}] * 100
    told = {
        "authority": "WoRMS",
        "source": words,
        "taxa": 1,
        "kept": [name] * 500,
        "above": [name] * 500,
        "unknown": [{"name": name, "why": words, "suggestions": [name] * MOST_SUGGESTIONS}] * 500,
        "replaced": [{"name": name, "given": 1, "accepted": 2, "acceptedName": name}] * 500,
        "rolledUp": [{"name": name, "aphiaId": 125469, "of": parts}] * 500,
    }
    balanced = {"name": name, "before": 1, "after": "2", "leftOut": 1, "weight": "1"}
    balance = {
        "strategy": "ClassWeights",
        "target": 5,
        "counted": "Annotations",
        "images": 5,
        "shown": 5,
        "mostRepeats": 5,
        "effectiveClasses": ["1", "2"],
        "effective": "1",
        "leftOut": {"reason": "AboveTarget", "images": 4, "first": [name] * 5},
        "classes": [balanced] * 500,
    }
    findings = [
        {"reason": fault.value, "field": field, "count": 1, "first": [name] * 5}
        for fault in CaptureFault
        for field in CAPTURE_FIELDS
    ]
    excluded = [{"reason": reason.value, "files": 2, "first": [name] * 5} for reason in ExclusionReason]

    found = status(
        classes=classes,
        taxonomy=told,
        balance=balance,
        capture={"fields": [], "findings": findings},
        excluded=excluded,
        warnings=[words] * 200,
    )

    assert len(json.dumps(found, ensure_ascii=False).encode()) < 1_100_000  # of the 1.5 MB that etcd accepts
    assert len(json.dumps(found)) < 3 * 1024**2  # the largest body that an API server accepts


def test_what_lies_beyond_a_threshold_is_shown_with_its_range() -> None:
    excluded = {"reason": "Blurred", "files": 2, "first": ["a.png", "b.png"], "measured": "0.4 to 9"}

    assert status(excluded=[excluded])["excluded"] == [excluded]


def test_a_result_of_an_earlier_release_has_neither() -> None:
    found = status()

    assert (found.get("measured"), found.get("statistics")) == (None, None)


def test_a_later_release_may_measure_more_and_long_texts_are_cut() -> None:
    later = MEASURED | {"measure": "colourfulness" * 100, "mean": "17"}

    found = status(measured=[later] * 1000, statistics=STATISTICS | {"images": 70})

    assert len(found["measured"]) == bounds.MOST_MEASURED
    assert found["measured"][0].keys() == MEASURED.keys()
    assert len(found["measured"][0]["measure"]) == bounds.LONGEST
    assert found["statistics"] == STATISTICS


def test_the_balance_of_the_training_split_is_shown_with_the_first_classes() -> None:
    one = {"name": "c" * 600, "before": 3, "after": "9", "leftOut": 0}
    balance = {
        "strategy": "Oversample",
        "target": 9,
        "counted": "Images",
        "images": 6,
        "shown": 18,
        "mostRepeats": 3,
        "effectiveClasses": ["2.00", "2.00"],
        "effective": "6.0",
        "classes": [one] * 101,
    }

    found = status(balance=balance | {"later": 7})

    assert found["balance"] == balance | {"classes": [one | {"name": "c" * 499 + "…"}] * bounds.MOST_CLASSES}
    (cut,) = found["truncated"]
    assert (cut["field"], cut["shown"], cut["total"]) == ("balance.classes", 100, 101)
    assert status().get("balance") is None


CAPTURED = {
    "fields": [{"field": "time", "known": 7, "unknown": 2}],
    "findings": [{"reason": "NotReadable", "field": "time", "count": 2, "first": ["a.png", "b.png"]}],
}


def test_what_is_known_of_time_and_place_is_shown_and_what_is_not() -> None:
    assert status(capture=CAPTURED)["capture"] == CAPTURED


def test_of_many_findings_the_first_are_shown_and_names_of_strangers_stay_text() -> None:
    hostile = CAPTURED["findings"][0] | {"first": ["x\u202egnp.tif" + "y" * 1000], "later": 1}
    seen = make_dataset_observed(
        run=make_run(RunState.SUCCEEDED),
        report=Report(result=preparation_result(capture=CAPTURED | {"findings": [hostile] * 500})),
    )

    decision = dataset.decide(seen)
    found = reporting.new_status({}, decision, (), generation=1, now=NOW)["capture"]

    assert len(found["findings"]) == bounds.MOST_FINDINGS
    (name,) = found["findings"][0]["first"]
    assert name.startswith("x\\u202egnp.tif")
    assert len(name) < bounds.LONGEST + 20
