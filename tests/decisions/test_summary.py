"""Ready is the first aspect that is not done, the most severe kind first."""

from __future__ import annotations

from itertools import combinations

import pytest

from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, summary

GRAVEST_FIRST = (
    ConditionState.PAUSED,
    ConditionState.REFUSED,
    ConditionState.FAILING,
    ConditionState.UNKNOWN,
    ConditionState.PROGRESSING,
)


def verdict(state: ConditionState, name: str = "") -> Verdict:
    return Verdict(name or state.value, state, Reason(f"{state.value}Reason"), f"{name or state.value} message")


@pytest.mark.parametrize(("graver", "lighter"), list(combinations(GRAVEST_FIRST, 2)))
def test_the_graver_state_wins_wherever_it_stands(graver: ConditionState, lighter: ConditionState) -> None:
    for order in ((graver, lighter), (lighter, graver)):
        assert summary(Decision(tuple(verdict(state) for state in order))).state is graver


def test_among_equals_the_first_wins() -> None:
    decision = Decision((verdict(ConditionState.REFUSED, "First"), verdict(ConditionState.REFUSED, "Second")))

    assert summary(decision).message == "First message"


def test_it_is_called_ready_and_keeps_reason_and_message() -> None:
    assert summary(Decision((verdict(ConditionState.FAILING),))) == Verdict(
        "Ready", ConditionState.FAILING, Reason("FailingReason"), "Failing message"
    )


def test_what_is_noted_hinders_nothing() -> None:
    ready = Verdict("Ready", ConditionState.DONE, reasons.SERVING, "serving")

    assert summary(Decision((verdict(ConditionState.DONE), verdict(ConditionState.NOTED)), ready=ready)) == ready


@pytest.mark.parametrize("state", ConditionState)
def test_only_what_holds_or_is_noted_lets_later_aspects_be_judged(state: ConditionState) -> None:
    assert verdict(state).stops is (state not in {ConditionState.DONE, ConditionState.NOTED})
