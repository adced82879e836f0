"""How FAIR the newest version is, and whether that is enough to publish it. Training never depends on it."""

from __future__ import annotations

import math

from pelagos.api import reasons
from pelagos.api.dataset import DatasetStatus, Fair
from pelagos.decisions.chains import Passed
from pelagos.decisions.dataset import published_versions
from pelagos.decisions.dataset.conditions import FAIR_PASSED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract.fair import evaluation
from pelagos_contract.fair.facts import MOST_CLASSES, Facts, registered
from pelagos_contract.fair.indicators import INDICATORS, PRINCIPLES
from pelagos_contract.metadata import Metadata
from pelagos_contract.publication import PUBLISHED, is_trial, repository_name

MOST_NAMED = 4
"""How many pieces of advice a message has at most."""


def judged(seen: Observed) -> Passed:
    """FairPassed and status.fair. Judged in every pass, because metadata can change and no run is needed to judge it."""
    found = evaluation.built_in(_facts(seen))
    fair = _status(found)
    return Passed((_verdict(seen, found, fair),), status=DatasetStatus(fair=fair))


def is_enough(seen: Observed) -> bool:
    """Whether the version may be published."""
    least = seen.spec.fair
    return least is None or _status(evaluation.built_in(_facts(seen))).score >= least.min_score


def _facts(seen: Observed) -> Facts:
    result, asked, known = seen.result, seen.spec.publish, published_versions.current(seen)
    is_it = known is not None and known.state == PUBLISHED and known.version == result["version"]
    doi = known.doi if known is not None and is_it and not is_trial(known.doi) else None
    return Facts(
        metadata=seen.spec.metadata or Metadata(),
        version=result["version"],
        classes=tuple(each["name"] for each in result["classes"][:MOST_CLASSES]),
        registered=registered(result["classes"]),
        source_doi=(result.get("origin") or {}).get("doi"),
        doi=doi,
        repository=repository_name(asked.url) if asked is not None and not asked.is_trial else None,
    )


def _status(found: evaluation.Evaluation) -> Fair:
    """The scores in status, rounded down: 74.9 must not pass for the 75 that somebody requires."""
    means = {name: math.floor(found.of(name) or 0) for name in PRINCIPLES}
    return Fair(score=math.floor(found.score or 0), failed=list(found.failed), **means)


def _verdict(seen: Observed, found: evaluation.Evaluation, fair: Fair) -> Verdict:
    least = seen.spec.fair
    if least is None:
        return Verdict(
            FAIR_PASSED, ConditionState.DONE, reasons.FAIR_ENOUGH, f"{fair.score} of 100; spec.fair sets no minimum"
        )
    if fair.score >= least.min_score:
        message = f"{fair.score} of 100; spec.fair.minScore is {least.min_score}"
        return Verdict(FAIR_PASSED, ConditionState.DONE, reasons.FAIR_ENOUGH, message)
    message = (
        f"{fair.score} of 100, and spec.fair.minScore is {least.min_score}: {len(fair.failed)} of {len(INDICATORS)} indicators "
        f"fail. What helps most: {'; '.join(words for words, _ in found.advice[:MOST_NAMED])}"
    )
    return Verdict(FAIR_PASSED, ConditionState.NOTED, reasons.FAIR_SCORE_TOO_LOW, message)
