"""Metrics that are ratios of sums, by class and averaged, such as precision and recall.

Averages over classes are those of scikit-learn (macro, micro, weighted) with ``zero_division=nan``: a ratio with denominator 0 is
undefined and not part of averages. Source: Sokolova and Lapalme, A systematic analysis of performance measures for classification
tasks, Information Processing and Management 45 (2009), doi:10.1016/j.ipm.2009.03.002.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract.tasks import AVERAGES


@dataclass(frozen=True)
class Share:
    """One metric: ``parts`` of ``wholes``, and the ``true`` amount, each ``[..., classes]``; averages are ``[...]``.

    A class without true samples has no metric; its predictions are wrong and count in the micro average.
    """

    parts: npt.NDArray[Any]
    wholes: npt.NDArray[Any]
    true: npt.NDArray[Any]

    @property
    def by_class(self) -> npt.NDArray[np.float64]:
        """``[..., classes]``; NaN where the class has no true samples, or the denominator is 0."""
        found: npt.NDArray[np.float64] = _share(self.parts, self.wholes, (self.true > 0) & (self.wholes > 0))
        return found

    @property
    def macro(self) -> Any:
        """The unweighted mean over the classes with a value; NaN without any."""
        return mean(self.by_class)

    @property
    def micro(self) -> Any:
        """The ratio of the sums over all classes. NaN without true samples, or with a denominator of 0."""
        parts, wholes = self.parts.sum(axis=-1), self.wholes.sum(axis=-1)
        return _share(parts, wholes, (self.true > 0).any(axis=-1) & (wholes > 0))

    @property
    def weighted(self) -> Any:
        """The mean over the classes with a value, weighted by their true amounts; NaN without any."""
        values = self.by_class
        known = np.isfinite(values)
        weights = np.where(known, self.true, 0)
        total = weights.sum(axis=-1)
        return _share((np.where(known, values, 0.0) * weights).sum(axis=-1), total, total > 0)


def _share(parts: Any, wholes: Any, defined: Any) -> Any:
    return np.where(defined, parts / np.where(defined, wholes, 1), np.nan)[()]


def mean(values: npt.NDArray[np.float64], chosen: Any = True) -> Any:
    """The unweighted mean of ``[..., classes]`` over the ``chosen`` classes with a value; NaN without any."""
    known = np.isfinite(values) & chosen
    counts = known.sum(axis=-1)
    return _share(np.where(known, values, 0.0).sum(axis=-1), counts, counts > 0)


def averages(shares: Mapping[str, Share]) -> dict[str, Any]:
    """Averages over classes by their names: the unweighted mean, and those in AVERAGES."""
    means = {name: share.macro for name, share in shares.items()}
    return means | {f"{name}-{kind}": getattr(share, kind) for name, share in shares.items() for kind in AVERAGES}


def of_epoch(shares: Mapping[str, Share], names: Iterable[str]) -> dict[str, float]:
    """Means over classes by which epochs and trials are compared; empty without true samples.

    Undefined values count as 0, as in ultralytics, so that they can be compared: for example precision without any prediction.
    """
    known = {name: shares[name].macro for name in names if np.any(shares[name].true)}
    return {name: float(value) if math.isfinite(value) else 0.0 for name, value in known.items()}


def of_counts(right: npt.NDArray[Any], true: npt.NDArray[Any], said: npt.NDArray[Any]) -> dict[str, Share]:
    """Precision, recall, F1 (for pixels: Dice) and IoU from the right, true and predicted amounts by class."""
    return {
        "precision": Share(right, said, true),
        "recall": Share(right, true, true),
        "F1": Share(2 * right, true + said, true),
        "IoU": Share(right, true + said - right, true),
    }
