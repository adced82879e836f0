"""Ready is the first aspect that stands in the way, the gravest kind first."""

from __future__ import annotations

from itertools import combinations

import pytest

from pelagos.decisions.verdicts import Decision, Stance, Verdict, summary

GRAVEST_FIRST = (Stance.PAUSED, Stance.REFUSED, Stance.FAILING, Stance.UNKNOWN, Stance.PROGRESSING)


def verdict(stance: Stance, name: str = "") -> Verdict:
    return Verdict(name or stance.value, stance, f"{stance.value}Reason", f"{name or stance.value} message")


@pytest.mark.parametrize(("graver", "lighter"), list(combinations(GRAVEST_FIRST, 2)))
def test_the_graver_stance_wins_wherever_it_stands(graver: Stance, lighter: Stance) -> None:
    for order in ((graver, lighter), (lighter, graver)):
        assert summary(Decision(tuple(verdict(stance) for stance in order))).stance is graver


def test_among_equals_the_first_wins() -> None:
    decision = Decision((verdict(Stance.REFUSED, "First"), verdict(Stance.REFUSED, "Second")))

    assert summary(decision).message == "First message"


def test_it_is_called_ready_and_keeps_reason_and_message() -> None:
    assert summary(Decision((verdict(Stance.FAILING),))) == Verdict(
        "Ready", Stance.FAILING, "FailingReason", "Failing message"
    )


def test_what_is_noted_does_not_stand_in_the_way() -> None:
    ready = Verdict("Ready", Stance.DONE, "Serving", "serving")

    assert summary(Decision((verdict(Stance.DONE), verdict(Stance.NOTED)), ready=ready)) == ready


@pytest.mark.parametrize("stance", Stance)
def test_only_what_holds_or_is_noted_lets_later_aspects_be_judged(stance: Stance) -> None:
    assert verdict(stance).stops is (stance not in {Stance.DONE, Stance.NOTED})
