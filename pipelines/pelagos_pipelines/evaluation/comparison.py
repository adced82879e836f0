"""Compares two models on the same images, with confidence intervals of the differences.

A paired bootstrap: groups of images are drawn with replacement, the same ones for both models, and the difference of a metric is
computed for each sample; its interval contains the middle 95 % (P. Koehn, Statistical significance tests for machine translation
evaluation, EMNLP 2004; B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Difficult images are
difficult for both models, which cancels out, so the interval is narrower than those of the two values suggest. See resampling for
why groups are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pelagos_contract.metrics import SETTINGS
from pelagos_contract.training import Difference
from pelagos_pipelines.evaluation import evidence as counting
from pelagos_pipelines.evaluation import resampling
from pelagos_pipelines.evaluation.evidence import Evidence

LEVEL = resampling.LEVEL
_EVALUATED = (
    "have it judged on this version of the Dataset by pelagos evaluate, and state the evidence that it names in spec.gates "
    "(champion.evidence)"
)


def why_not(ours: Evidence, other: Evidence) -> str | None:
    """Why the two cannot be compared; None when they can."""
    if ours.task is not other.task:
        return f"its task is {other.task}, and not {ours.task}"
    if ours.labels != other.labels:
        return f"it tells other classes apart; {_EVALUATED}, or train it on that, and register it"
    if ours.test != other.test or ours.images != other.images:
        before = "an earlier preparation of it" if other.version == ours.version else f"those of {other.version[:19]}"
        return (
            f"it was tested on other images, {before}: {_EVALUATED}, or train it on {ours.version[:19]}, the version of this "
            "training, and register it"
        )
    return None


def compare(ours: Evidence, other: Evidence) -> tuple[dict[str, Difference], str | None]:
    """The differences of all metrics of the whole split, by their names without a split; and the reason if there are no
    intervals.

    Both must be of the same images.
    """
    units = resampling.units_of(ours)
    everything: Any = np.ones((1, len(ours.images)), np.int32)
    mine, theirs = (resampling.known(counting.counted(each, everything)) for each in (ours, other))
    why, intervals = units.why_not(), dict[str, Any]()
    if why is None:
        intervals = _intervals(ours, other, units)
    return {name: _difference(name, mine, theirs, intervals) for name in mine if name not in SETTINGS}, why


def _difference(
    name: str, mine: Mapping[str, float | None], theirs: Mapping[str, float | None], intervals: Mapping[str, Any]
) -> Difference:
    interval = intervals.get(name)
    return Difference(
        value=mine[name],
        champion=theirs.get(name),
        low=interval.low if interval is not None else None,
        high=interval.high if interval is not None else None,
    )


def _intervals(ours: Evidence, other: Evidence, units: resampling.Units) -> dict[str, Any]:
    samples, at_once = resampling.samples_for(ours), min(ours.at_once, other.at_once)
    count, counterpart = ours.counter(), other.counter()
    parts: dict[str, list[Any]] = {}
    # The seed only depends on the test, so that a repeated comparison draws the same samples.
    for weights in resampling.draws(units, samples, resampling.seed_of(ours.test, "champion"), at_once):
        mine, theirs = count(weights), counterpart(weights)
        for name in mine.keys() & theirs.keys():
            parts.setdefault(name, []).append(mine[name] - theirs[name])
    return {name: resampling.interval(np.concatenate(values)) for name, values in parts.items()}
