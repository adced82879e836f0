"""Metrics that are shares of sums, of each class and of all: precision is what is right of what is said, recall of what is true.

Averages over classes are those of scikit-learn (macro, micro, weighted), with ``zero_division=nan``: a share of nothing is
undefined, and enters no average. Source: Sokolova and Lapalme, A systematic analysis of performance measures for classification
tasks, Information Processing and Management 45 (2009), doi:10.1016/j.ipm.2009.03.002.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_contract.tasks import AVERAGES


@dataclass(frozen=True)
class Share:
    """One metric: ``parts`` of ``wholes``, and how much is ``true``, each ``[..., classes]``; averages are ``[...]``.

    A class of which nothing is true has no metric of its own: what is said of it is wrong, and counts in the micro average.
    """

    parts: Any
    wholes: Any
    true: Any

    @property
    def by_class(self) -> Any:
        """``[..., classes]``; NaN where nothing is true of the class, or there is nothing to be a share of."""
        return _share(self.parts, self.wholes, (self.true > 0) & (self.wholes > 0))

    @property
    def macro(self) -> Any:
        """The unweighted mean over the classes that have it; NaN where none has."""
        return mean(self.by_class)

    @property
    def micro(self) -> Any:
        """Of all classes as if they were one: the sums are put together first. NaN where nothing is true, or they are 0."""
        parts, wholes = self.parts.sum(axis=-1), self.wholes.sum(axis=-1)
        return _share(parts, wholes, (self.true > 0).any(axis=-1) & (wholes > 0))

    @property
    def weighted(self) -> Any:
        """The mean over the classes that have it, each counted as often as it is true; NaN where none has."""
        values = self.by_class
        known = np.isfinite(values)
        weights = np.where(known, self.true, 0)
        total = weights.sum(axis=-1)
        return _share((np.where(known, values, 0.0) * weights).sum(axis=-1), total, total > 0)


def _share(parts: Any, wholes: Any, defined: Any) -> Any:
    return np.where(defined, parts / np.where(defined, wholes, 1), np.nan)[()]


def mean(values: Any, chosen: Any = True) -> Any:
    """The unweighted mean of ``[..., classes]`` over the ``chosen`` classes that have a value; NaN where none has."""
    known = np.isfinite(values) & chosen
    counts = known.sum(axis=-1)
    return _share(np.where(known, values, 0.0).sum(axis=-1), counts, counts > 0)


def averages(shares: Mapping[str, Share]) -> dict[str, Any]:
    """Metrics of all classes together by their names: the mean over classes, and what AVERAGES says."""
    means = {name: share.macro for name, share in shares.items()}
    return means | {f"{name}-{kind}": getattr(share, kind) for name, share in shares.items() for kind in AVERAGES}


def of_epoch(shares: Mapping[str, Share], names: Iterable[str]) -> dict[str, float]:
    """Means over classes that epochs and trials are compared by; none where nothing is true.

    Where a model has said nothing yet, its precision is 0, as ultralytics has it: what is undefined could not be compared.
    """
    known = {name: shares[name].macro for name in names if np.any(shares[name].true)}
    return {name: float(value) if math.isfinite(value) else 0.0 for name, value in known.items()}


def of_counts(right: Any, true: Any, said: Any) -> dict[str, Share]:
    """Precision, recall, F1 (of pixels: Dice) and IoU of what is right, true and said, by class."""
    return {
        "precision": Share(right, said, true),
        "recall": Share(right, true, true),
        "F1": Share(2 * right, true + said, true),
        "IoU": Share(right, true + said - right, true),
    }
