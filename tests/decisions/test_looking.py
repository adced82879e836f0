"""When a fetched source is checked again; tests/reconcilers/test_sources_of_others.py shows it over time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import builders
from pelagos.api.dataset import DatasetSpec
from pelagos.decisions import dataset
from pelagos.decisions.dataset import looking
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.reports import Report
from pelagos.ports.pipelines import RunState

DAY = 24 * 3600.0
URL = "https://data.example/reef.zip"


def seen(ago: float, run: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **changes: Any) -> Observed:
    """A preparation that succeeded ``ago`` seconds before now."""
    given = {**builders.DATASET, "source": {"http": {"url": URL}}, **(spec or {})}
    known: dict[str, Any] = {
        "state": RunState.SUCCEEDED,
        "finished_at": builders.NOW - timedelta(seconds=ago),
        "retry_key": "",
    }
    report = Report(result=builders.preparation_result())
    usual = {"run": builders.make_run(**known | (run or {})), "report": report}
    return builders.make_dataset_observed(spec=DatasetSpec.model_validate(given), **usual | changes)


def test_the_data_volume_is_looked_at_every_ten_minutes_and_a_server_once_a_day() -> None:
    assert looking.period(builders.make_dataset_observed()) == 600
    assert looking.period(seen(0)) == DAY
    assert looking.period(seen(0, spec={"refresh": "90s"})) == 90


@pytest.mark.parametrize(
    ("ago", "spec", "is_due"),
    [
        (DAY - 1, {}, False),
        (DAY, {}, True),
        (3600, {"refresh": "1h"}, True),
        (30, {"refresh": "1s"}, False),
        (60, {"refresh": "1s"}, True),
        (9 * DAY, {"source": {"http": {"url": URL, "sha256": "0" * 64}}}, False),
        (9 * DAY, {"source": {"volume": {"path": "frames"}}}, False),
    ],
)
def test_a_look_is_due_by_the_end_of_the_last_one(ago: float, spec: dict[str, Any], is_due: bool) -> None:
    assert looking.key(seen(ago, spec=spec)).startswith("@") is is_due


def test_the_key_stays_as_long_as_a_look_goes_on() -> None:
    key = looking.key(seen(DAY))
    for state in (RunState.PENDING, RunState.RUNNING):
        assert looking.key(seen(0, {"retry_key": key, "state": state, "finished_at": None}, report=Report())) == key
    assert looking.key(seen(10, {"retry_key": key})) == key
    assert looking.key(seen(DAY + 1, {"retry_key": key})) not in {key, ""}


@pytest.mark.parametrize(
    ("taxonomy", "reason", "ago", "is_due"),
    [
        ({}, "TaxonomyUnavailable", 599, False),
        ({}, "TaxonomyUnavailable", 600, True),
        ({}, "TaxaUnknown", 9 * DAY, False),
        ({"table": "taxa.csv"}, "TaxonomyUnavailable", 9 * DAY, False),
    ],
)
def test_a_register_that_did_not_answer_is_asked_again_every_ten_minutes(
    taxonomy: dict[str, str], reason: str, ago: float, *, is_due: bool
) -> None:
    labels = {"taxonomy": {"authority": "WoRMS", **taxonomy}}
    spec = {"source": {"volume": {"path": "frames"}}, "labels": labels}
    failed = Report(failure={"reason": reason, "message": "no"})
    before = seen(ago, {"state": RunState.FAILED}, spec, report=failed)

    assert looking.key(before).startswith("@") is is_due
    key = looking.key(before)
    assert looking.key(seen(9 * DAY, {"retry_key": key}, spec)) == key  # it answered


def test_a_persons_key_begins_anew_and_is_kept_in_those_that_follow() -> None:
    key = looking.key(seen(DAY))
    assert looking.key(seen(5, {"retry_key": key}, retry="now")) == "now"
    assert looking.key(seen(DAY, {"retry_key": "now"}, retry="now")).startswith("now@")
    assert looking.key(seen(5, {"retry_key": "a@b"}, retry="a@b")) == "a@b"


def test_without_a_run_the_key_on_record_counts() -> None:
    kept = Report(result=builders.preparation_result(), retry_key="now@2026-11-28T10:00:00Z")
    assert looking.key(seen(0, run=None, report=kept, retry="now")) in {kept.retry_key, "now"}
    assert looking.key(builders.make_dataset_observed(retry="x")) == "x"


def test_what_lacks_its_secret_or_is_not_there_yet_is_tried_again_soon() -> None:
    failure = {"reason": "SourceSecretIncomplete", "message": "no"}
    failed = {"state": RunState.FAILED, "message": "a step ended with an error"}
    assert looking.key(seen(59, failed, report=Report(failure=failure))) == ""
    assert looking.key(seen(60, failed, report=Report(failure=failure))) != ""
    absent = Report(failure=failure | {"reason": "SourceNotFound"})
    assert looking.key(seen(599, failed, report=absent)) == ""
    assert looking.key(seen(600, failed, report=absent)) != ""
    other = Report(failure=failure | {"reason": "SourceAccessDenied"})
    assert looking.key(seen(3600, failed, report=other)) == ""
    assert looking.key(seen(DAY, failed, report=other)) != ""


def test_what_was_fetched_is_told() -> None:
    origin = {"url": "https://zenodo.org/records/17", "version": "17 (v2)", "doi": "10.5281/zenodo.17", "state": "0f"}
    report = Report(result=builders.preparation_result(origin=origin))
    decision = dataset.decide(seen(10, report=report))
    resolved = next(each for each in decision.verdicts if each.type == "SourceResolved")
    assert resolved.message == "fetched: 17 (v2) of https://zenodo.org/records/17"
    assert decision.status["source"] == {name: origin[name] for name in ("url", "version", "doi")}
    none = dataset.decide(seen(0, run={"state": RunState.RUNNING, "finished_at": None}, report=Report()))
    assert "as spec.source.http says" in [each.message for each in none.verdicts]
