"""From a decision to conditions and one patch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import NOW
from pelagos.api import merge_patches
from pelagos.api.reasons import Reason
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict
from pelagos.reconcilers import reporting

OWNED = ("First", "Second")


def report(
    *verdicts: tuple[str, ConditionState], previous: Any = None, later: float = 0, **status: Any
) -> dict[str, Any]:
    listed = tuple(Verdict(name, state, Reason(f"{state.value}Reason"), "a message") for name, state in verdicts)
    ready = Verdict("Ready", ConditionState.DONE, Reason("Fine"), "all is well")
    decision = Decision(listed, status=status, ready=ready)
    return reporting.new_status(previous or {}, decision, OWNED, generation=7, now=NOW + timedelta(seconds=later))


def by_type(status: Any) -> dict[str, dict[str, Any]]:
    return {condition["type"]: condition for condition in status["conditions"]}


@pytest.mark.parametrize(
    ("state", "ready", "extra"),
    [
        (ConditionState.DONE, "True", set()),
        (ConditionState.NOTED, "True", set()),
        (ConditionState.PROGRESSING, "Unknown", {"Reconciling"}),
        (ConditionState.WAITING, "Unknown", {"Reconciling", "Waiting"}),
        (ConditionState.UNKNOWN, "Unknown", {"Reconciling"}),
        (ConditionState.FAILING, "False", {"Reconciling"}),
        (ConditionState.REFUSED, "False", {"Stalled"}),
        (ConditionState.PAUSED, "False", set()),
    ],
)
def test_what_a_state_means_for_ready_reconciling_and_stalled(
    state: ConditionState, ready: str, extra: set[str]
) -> None:
    found = by_type(report(("First", state)))

    assert found["Ready"]["status"] == ready
    assert found.keys() - {"Ready", *OWNED} == extra
    assert all(found[name]["status"] == "True" for name in extra)


def test_ready_comes_first_and_every_owned_condition_is_there() -> None:
    status = report(("First", ConditionState.REFUSED))

    assert [condition["type"] for condition in status["conditions"]] == ["Ready", "Stalled", "First", "Second"]
    assert by_type(status)["Second"]["status"] == "Unknown"
    assert by_type(status)["Second"]["reason"] == "Pending"


def test_what_does_not_hold_and_does_not_matter_is_false() -> None:
    assert by_type(report(("First", ConditionState.NOTED)))["First"]["status"] == "False"


def test_the_time_of_transition_changes_with_the_status_only() -> None:
    before = report(("First", ConditionState.PROGRESSING))
    same = report(("First", ConditionState.UNKNOWN), previous=before, later=60)
    other = report(("First", ConditionState.DONE), previous=same, later=120)

    times = [by_type(status)["First"]["lastTransitionTime"] for status in (before, same, other)]
    assert times == ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z", "2026-03-01T12:02:00Z"]


def test_reconciling_and_stalled_go_when_they_no_longer_hold() -> None:
    before = report(("First", ConditionState.REFUSED))

    assert "Stalled" not in by_type(report(("First", ConditionState.DONE), previous=before))


def test_since_when_something_is_waited_for_is_told_and_after_half_an_hour_in_words_too() -> None:
    first = report(("First", ConditionState.WAITING))
    soon = report(("First", ConditionState.WAITING), previous=first, later=29 * 60)
    late = report(("First", ConditionState.WAITING), previous=soon, later=30 * 60)
    over = report(("First", ConditionState.PROGRESSING), previous=late, later=40 * 60)
    again = report(("First", ConditionState.WAITING), previous=over, later=50 * 60)

    assert soon == first
    assert {by_type(status)["Waiting"]["lastTransitionTime"] for status in (first, late)} == {"2026-03-01T12:00:00Z"}
    for name in ("Ready", "Reconciling", "Waiting"):
        assert by_type(late)[name]["message"].startswith(
            "a message. Waited for since 2026-03-01T12:00:00Z: what should"
        )
    assert "Waiting" not in by_type(over)
    assert by_type(again)["Ready"]["message"] == "a message"


def announced(before: Any, *verdicts: tuple[str, ConditionState], later: float = 0) -> str:
    """The type of event with which the transition is announced."""
    after = report(*verdicts, previous=before, later=later)
    listed = tuple(Verdict(name, state, Reason("Reason"), "a message") for name, state in verdicts)
    news = reporting.announcement(before, after, Decision(listed))
    return "not" if news is None else "Warning" if news.warns else "Normal"


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        (ConditionState.DONE, "Normal"),
        (ConditionState.PROGRESSING, "Normal"),
        (ConditionState.WAITING, "Normal"),
        (ConditionState.PAUSED, "Normal"),
        (ConditionState.FAILING, "Warning"),
        (ConditionState.REFUSED, "Warning"),
        (ConditionState.UNKNOWN, "Warning"),
    ],
)
def test_only_what_nobody_planned_is_a_warning(state: ConditionState, severity: str) -> None:
    before = report(("First", ConditionState.PROGRESSING), ("Second", ConditionState.PROGRESSING))

    assert announced({}, ("First", state)) == severity
    assert announced(report(("First", state), previous=before), ("First", state)) == "not"


def test_what_was_there_and_is_gone_is_a_warning_though_it_is_waited_for() -> None:
    assert announced(report(("First", ConditionState.DONE)), ("First", ConditionState.WAITING)) == "Warning"


def test_that_a_wait_has_become_long_is_told_once() -> None:
    begun = report(("First", ConditionState.WAITING))
    late = report(("First", ConditionState.WAITING), previous=begun, later=1800)

    assert announced(begun, ("First", ConditionState.WAITING), later=1800) == "Warning"
    assert announced(late, ("First", ConditionState.WAITING), later=3600) == "not"


def test_fields_that_are_not_named_stay_and_none_removes() -> None:
    before = report(version="1", uri="a")

    after = report(previous=before, uri=None, images=3)

    assert {name: value for name, value in after.items() if name != "conditions"} == {
        "version": "1",
        "images": 3,
        "observedGeneration": 7,
    }
    assert merge_patches.between(before, after) == {"uri": None, "images": 3}


def test_an_unchanged_pass_makes_no_patch() -> None:
    before = report(("First", ConditionState.REFUSED), version="1")

    after = report(("First", ConditionState.REFUSED), previous=before, later=3600, version="1")

    assert merge_patches.between(before, after) == {}


def test_a_long_message_is_cut_to_what_the_server_takes() -> None:
    verdict = Verdict("First", ConditionState.DONE, Reason("Done"), "x" * 100_000)

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


@settings(suppress_health_check=[HealthCheck.too_slow])  # it only says that the machine is busy
@given(mappings, mappings)
def test_the_patch_turns_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_patches.between(before, after)

    assert merge_patches.merged(before, patch) == after
    assert (patch == {}) == (before == after)
