"""The score of a dataset: the mean of its indicators by their weights, as FAIR EVA computes it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pelagos_contract.fair.checks import Found
from pelagos_contract.fair.facts import Facts
from pelagos_contract.fair.indicators import INDICATORS, PRINCIPLES, Indicator, Principle

PASS, FAIL = 75, 50
"""Thresholds of FAIR EVA: an indicator passes from 75 points, and fails up to 50."""


@dataclass(frozen=True)
class Evaluation:
    """The outcomes of all indicators. Those that were not evaluated have None as ``points`` and do not count."""

    found: Mapping[str, Found]

    @property
    def score(self) -> float | None:
        """The weighted mean, 0 to 100 with two decimals; None when nothing was evaluated."""
        return self._mean(INDICATORS)

    def of(self, principle: Principle) -> float | None:
        """The score of the indicators of one principle."""
        return self._mean(each for each in INDICATORS if each.principle == principle)

    @property
    def failed(self) -> tuple[str, ...]:
        """The codes of the indicators that fail."""
        return self._codes(lambda points: points is not None and points <= FAIL)

    @property
    def not_evaluated(self) -> tuple[str, ...]:
        """The codes of the indicators that were not evaluated."""
        return self._codes(lambda points: points is None)

    @property
    def advice(self) -> tuple[tuple[str, float], ...]:
        """Advice with the largest gain in score that it can bring, the largest first."""
        lost: dict[str, float] = {}
        for each in INDICATORS:
            found = self.found[each.code]
            if found.advice and found.points is not None:
                lost[found.advice] = lost.get(found.advice, 0) + (100 - found.points) * each.weight
        whole = sum(each.weight for each in INDICATORS if self.found[each.code].points is not None)
        return tuple(
            (words, round(points / whole, 1)) for words, points in sorted(lost.items(), key=lambda one: -one[1])
        )

    def document(self) -> dict[str, Any]:
        """The JSON document: the score, those of the principles, and every indicator."""
        return {
            "score": self.score,
            **{principle: self.of(principle) for principle in PRINCIPLES},
            "failed": list(self.failed),
            "notEvaluated": list(self.not_evaluated),
            "advice": [{"do": words, "gives": points} for words, points in self.advice],
            "indicators": [
                {
                    "code": each.code,
                    "title": each.title,
                    "priority": each.priority,
                    "weight": each.weight,
                    "points": self.found[each.code].points,
                    "status": status(self.found[each.code].points),
                    "evidence": self.found[each.code].evidence,
                    "advice": self.found[each.code].advice,
                }
                for each in INDICATORS
            ],
        }

    def _mean(self, indicators: Iterable[Indicator]) -> float | None:
        judged = [(found, each.weight) for each in indicators if (found := self.found[each.code].points) is not None]
        if not judged:
            return None
        return round(sum(points * weight for points, weight in judged) / sum(weight for _, weight in judged), 2)

    def _codes(self, wanted: Any) -> tuple[str, ...]:
        return tuple(each.code for each in INDICATORS if wanted(self.found[each.code].points))


def status(points: float | None) -> str:
    """The status in FAIR EVA's terms, pass, fail or indeterminate; "not evaluated" without points."""
    if points is None:
        return "not evaluated"
    if points >= PASS:
        return "pass"
    return "indeterminate" if points > FAIL else "fail"


def built_in(facts: Facts) -> Evaluation:
    """Evaluate by the built-in checks, which use no network."""
    found = {check: check(facts) for check in {each.check for each in INDICATORS}}  # several indicators share one
    return Evaluation({each.code: found[each.check] for each in INDICATORS})
