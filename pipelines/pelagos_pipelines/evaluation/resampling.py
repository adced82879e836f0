"""Confidence intervals of metrics by the bootstrap: how they would vary for other images of the same kind.

Groups of images are drawn with replacement, as many as there are, and metrics are recomputed, thousands of times; the interval
has the middle 95 % of the values (percentile bootstrap: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). Groups are drawn instead of images, since images of a station are alike, and intervals from single images would be
too narrow (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 3.8; C. A. Field and A. H.
Welsh, Bootstrapping clustered data, Journal of the Royal Statistical Society B 69, 2007). With few groups there are no intervals.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract.metrics import SETTINGS
from pelagos_contract.training import Interval, Resampling
from pelagos_pipelines.evaluation.evidence import Evidence

IMAGE = "image"
"""The field of evidence with the source files, by which tiles of one file stay together."""
LEVEL = 0.95
SAMPLES = 2_000
FEWEST_SAMPLES = 200
WORK = 400_000_000
"""Most rows of evidence over all samples; larger evidence gets fewer samples."""
FEWEST_GROUPS = 5
DEFINED = 0.95
"""Least share of samples in which a metric must be defined."""


@dataclass(frozen=True)
class Units:
    """The resampled groups: ``numbers`` ``[images]`` is each image's group of ``count``, by the field ``by``."""

    by: str
    numbers: npt.NDArray[np.int64]
    count: int

    def why_not(self) -> str | None:
        """Why there are no intervals; None when there are."""
        if self.count >= FEWEST_GROUPS:
            return None
        what = "images" if self.by == IMAGE else f"different values of {self.by}"
        return f"there are {self.count} {what}, and an interval needs {FEWEST_GROUPS}"


def units_of(evidence: Evidence) -> Units:
    """The dataset's groups; else sites or deployments, if known for all images; else images.

    A field with the same value for all images is skipped. An image without a group forms its own group.
    """
    files = evidence.fields[IMAGE]
    groups = evidence.fields.get("group", ())
    if len({*groups} - {None}) > 1:
        alone = [(None, file) if group is None else (group, None) for group, file in zip(groups, files, strict=True)]
        return _numbered("group", alone)
    for field in ("site", "deployment"):
        values = evidence.fields.get(field, ())
        if None not in values and len({*values}) > 1:
            return _numbered(field, values)
    return _numbered(IMAGE, files)


def samples_for(evidence: Evidence) -> int:
    """The number of samples to draw."""
    return max(FEWEST_SAMPLES, min(SAMPLES, WORK // max(evidence.rows, 1)))


def seed_of(*names: str) -> int:
    """A seed that is derived from ``names``, so that results are reproducible."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big")


def draws(units: Units, samples: int, seed: int, at_once: int) -> Iterator[Any]:
    """The multiplicity of each image, ``[samples, images]``, in parts of at most ``at_once`` samples."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, at_once):
        size = min(at_once, samples - start)
        drawn = generator.integers(0, units.count, (size, units.count)) + units.count * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * units.count).reshape(size, units.count)
        yield counts[:, units.numbers].astype(np.int32)


def resampled(models: Sequence[Evidence], units: Units, samples: int, seed: int) -> dict[str, Any]:
    """Metrics ``[samples]`` of samples of the same images, as means over several models with the same test."""
    counters = [model.counter() for model in models]
    parts = [
        [count(weights) for count in counters]
        for weights in draws(units, samples, seed, min(model.at_once for model in models))
    ]
    return {
        name: np.concatenate([np.mean([model[name] for model in part], axis=0) for part in parts])
        for name in parts[0][0]
    }


def interval(values: npt.NDArray[np.float64]) -> Interval | None:
    """The interval with the middle of the values; None if too many are undefined."""
    known = values[np.isfinite(values)]
    if len(known) < DEFINED * len(values) or not len(known):
        return None
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(low=float(low), high=float(high))


def intervals(models: Sequence[Evidence], *names: str) -> tuple[dict[str, Interval], Resampling]:
    """The intervals of metrics over all images, by their names without a split; ``names`` are part of the seed."""
    first = models[0]
    units, samples = units_of(first), samples_for(first)
    why = units.why_not()
    told = Resampling(by=units.by, groups=units.count, level=LEVEL, samples=0 if why else samples, why=why)
    if why is not None:
        return {}, told
    found = resampled(models, units, samples, seed_of(first.test, *names))
    each = {name: interval(values) for name, values in found.items() if name not in SETTINGS}
    return {name: one for name, one in each.items() if one is not None}, told


def known(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of one multiset; None for undefined ones."""
    return {name: float(values[0]) if math.isfinite(values[0]) else None for name, values in metrics.items()}


def _numbered(by: str, values: Sequence[object]) -> Units:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return Units(by, np.array([numbers[value] for value in values], np.int64), len(numbers))
