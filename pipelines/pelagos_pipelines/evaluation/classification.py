"""Classification metrics from true and predicted class ids. Training validates with them, evaluation reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]; arrays have one entry per class, NaN where the class has no true image.

    ``confusion`` is ``[true class, predicted class]`` in images. A class that is never predicted has precision 0,
    as in scikit-learn's ``zero_division=0``.
    """

    accuracy: float
    precision: Any
    recall: Any
    f1: Any
    confusion: Any

    def macro(self, metric: str) -> float:
        """The unweighted mean of ``precision``, ``recall`` or ``f1`` over the classes that have true images."""
        return float(np.nanmean(getattr(self, metric)))


def score(truth: Any, predicted: Any, classes: int) -> Scores:
    """Metrics of ``predicted`` class ids [n] against ``truth`` [n], n >= 1.

    Definitions: Sokolova and Lapalme 2009, doi:10.1016/j.ipm.2009.03.002.
    """
    confusion: Any = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (np.asarray(truth), np.asarray(predicted)), 1)
    hits: Any = confusion.diagonal().astype(float)
    actual, claimed = confusion.sum(axis=1), confusion.sum(axis=0)
    present = actual > 0
    precision = np.where(present, hits / np.maximum(claimed, 1), np.nan)
    recall = np.where(present, hits / np.maximum(actual, 1), np.nan)
    f1 = np.where(present, 2 * hits / np.maximum(actual + claimed, 1), np.nan)
    return Scores(float(hits.sum() / confusion.sum()), precision, recall, f1, confusion)


def precision_recall(positive: Any, probability: Any) -> tuple[Any, Any]:
    """Precision and recall at every threshold for one class against the others, recall descending to 0.

    ``positive`` [n] is the truth, ``probability`` [n] the score. The negative sum of recall steps times precision is the
    average precision, as in scikit-learn.
    """
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(positive[order])
    # Images of equal probability pass a threshold together.
    ends: Any = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / max(int(hits[-1]), 1)
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0)
