"""Classification metrics from true and predicted class ids, for validation during training and for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.shares import Share

TOP = 5


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]: ``shares`` by name, precision, recall and F1.

    ``confusion`` is ``[true class, predicted class]`` in images.
    """

    accuracy: float
    shares: dict[str, Share]
    confusion: npt.NDArray[np.int64]


def score(truth: Any, predicted: Any, classes: int) -> Scores:
    """Metrics of ``predicted`` class ids [n] against ``truth`` [n], n >= 1."""
    confusion: Any = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (np.asarray(truth), np.asarray(predicted)), 1)
    return of_confusion(confusion)


def of_confusion(confusion: npt.NDArray[np.int64]) -> Scores:
    """Metrics from a confusion matrix ``[true class, predicted class]`` in images."""
    right = confusion.diagonal()
    counts = shares_of(right, confusion.sum(axis=1), confusion.sum(axis=0))
    return Scores(float(right.sum() / confusion.sum()), counts, confusion)


def shares_of(right: npt.NDArray[Any], true: npt.NDArray[Any], said: npt.NDArray[Any]) -> dict[str, Share]:
    """Precision, recall and F1 of images by class, without IoU, which would be equivalent to F1."""
    counts = shares.of_counts(right, true, said)
    return {name: counts[name] for name in ("precision", "recall", "F1")}


def top5(truth: Any, probabilities: npt.NDArray[Any]) -> float:
    """Share of images [n] whose class is among the five most probable ones of ``probabilities`` [n, classes].

    Ties are resolved by the lower id, as for the predicted class. NaN with at most five classes, where it would always be 1.
    Source: Russakovsky et al. 2015, doi:10.1007/s11263-015-0816-y.
    """
    if probabilities.shape[1] <= TOP:
        return float("nan")
    first = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return float((first == np.asarray(truth)[:, None]).any(axis=1).mean())


def surprise(chance: Any) -> Any:
    """Minus the natural logarithm of the probability ``chance`` [n] of each image's true class.

    The mean is the loss (log loss, cross-entropy: Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x). Probabilities are clipped
    by the epsilon of single precision, so that one image cannot make the loss infinite.
    """
    least = float(np.finfo(np.float32).eps)
    return -np.log(np.clip(np.asarray(chance, float), least, 1 - least))


def precision_recall(
    positive: npt.NDArray[np.bool_], probability: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision and recall at every threshold for one class against the others, recall descending to 0.

    ``positive`` [n] is the truth, ``probability`` [n] the score. The negative sum of recall steps times precision is the average
    precision, as in scikit-learn.
    """
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(positive[order])
    # Images of equal probability pass a threshold together.
    ends: Any = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / max(int(hits[-1]), 1)
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0)
