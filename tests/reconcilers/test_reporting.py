"""From a decision to conditions and one patch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import NOW
from pelagos.decisions.verdicts import Decision, Stance, Verdict
from pelagos.ports.fakes import cluster
from pelagos.reconcilers import reporting

OWNED = ("First", "Second")


def report(*verdicts: tuple[str, Stance], previous: Any = None, later: float = 0, **status: Any) -> dict[str, Any]:
    listed = tuple(Verdict(name, stance, f"{stance.value}Reason", "a message") for name, stance in verdicts)
    ready = Verdict("Ready", Stance.DONE, "Fine", "all is well")
    decision = Decision(listed, status=status, ready=ready)
    return reporting.new_status(previous or {}, decision, OWNED, generation=7, now=NOW + timedelta(seconds=later))


def by_type(status: Any) -> dict[str, dict[str, Any]]:
    return {condition["type"]: condition for condition in status["conditions"]}


@pytest.mark.parametrize(
    ("stance", "ready", "extra"),
    [
        (Stance.DONE, "True", set()),
        (Stance.NOTED, "True", set()),
        (Stance.PROGRESSING, "Unknown", {"Reconciling"}),
        (Stance.UNKNOWN, "Unknown", {"Reconciling"}),
        (Stance.FAILING, "False", {"Reconciling"}),
        (Stance.REFUSED, "False", {"Stalled"}),
        (Stance.PAUSED, "False", set()),
    ],
)
def test_what_a_stance_means_for_ready_reconciling_and_stalled(stance: Stance, ready: str, extra: set[str]) -> None:
    found = by_type(report(("First", stance)))

    assert found["Ready"]["status"] == ready
    assert found.keys() - {"Ready", *OWNED} == extra
    assert all(found[name]["status"] == "True" for name in extra)


def test_ready_comes_first_and_every_owned_condition_is_there() -> None:
    status = report(("First", Stance.REFUSED))

    assert [condition["type"] for condition in status["conditions"]] == ["Ready", "Stalled", "First", "Second"]
    assert by_type(status)["Second"]["status"] == "Unknown"
    assert by_type(status)["Second"]["reason"] == "NotYetJudged"


def test_what_does_not_hold_and_does_not_matter_is_false() -> None:
    assert by_type(report(("First", Stance.NOTED)))["First"]["status"] == "False"


def test_the_time_of_transition_changes_with_the_status_only() -> None:
    before = report(("First", Stance.PROGRESSING))
    same = report(("First", Stance.UNKNOWN), previous=before, later=60)
    other = report(("First", Stance.DONE), previous=same, later=120)

    times = [by_type(status)["First"]["lastTransitionTime"] for status in (before, same, other)]
    assert times == ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z", "2026-03-01T12:02:00Z"]


def test_reconciling_and_stalled_go_when_they_no_longer_hold() -> None:
    before = report(("First", Stance.REFUSED))

    assert "Stalled" not in by_type(report(("First", Stance.DONE), previous=before))


def test_fields_that_are_not_named_stay_and_none_removes() -> None:
    before = report(version="1", uri="a")

    after = report(previous=before, uri=None, images=3)

    assert {name: value for name, value in after.items() if name != "conditions"} == {
        "version": "1",
        "images": 3,
        "observedGeneration": 7,
    }
    assert reporting.merge_patch(before, after) == {"uri": None, "images": 3}


def test_an_unchanged_pass_makes_no_patch() -> None:
    before = report(("First", Stance.REFUSED), version="1")

    after = report(("First", Stance.REFUSED), previous=before, later=3600, version="1")

    assert reporting.merge_patch(before, after) == {}


def test_a_long_message_is_cut_to_what_the_server_takes() -> None:
    verdict = Verdict("First", Stance.DONE, "Done", "x" * 100_000)

    status = reporting.new_status({}, Decision((verdict,)), OWNED, generation=1, now=NOW)

    assert len(by_type(status)["First"]["message"]) <= 32768


def test_ready_of_a_status_without_conditions_is_empty() -> None:
    assert reporting.ready_condition({}) == {}


values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow])  # says that the machine is busy
@given(mappings, mappings)
def test_the_patch_turns_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = reporting.merge_patch(before, after)

    assert cluster.merged(before, patch) == after
    assert (patch == {}) == (before == after)
