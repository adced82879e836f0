"""Metrics of pixel classes from confusion matrices of pixels, for evaluation and for validation during training.

Definitions: Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015, section 5 (IoU, pixel
accuracy; its frequency weighted IU is the weighted IoU here, over the classes only); Dice, Measures of the amount of ecologic
association between species, Ecology 26 (1945), doi:10.2307/1932409.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.shares import Share


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]: ``shares`` by name: IoU, Dice, precision, recall and F1, which equals Dice for pixels.

    ``confusion`` is ``[true, predicted]`` in pixels, with "no class" last. ``accuracy`` is over all pixels, including those
    without a class; NaN without any true annotation.
    """

    shares: dict[str, Share]
    accuracy: float
    confusion: npt.NDArray[np.int64]


def confusion(truth: npt.NDArray[np.int64], predicted: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    """Pixels by true and predicted class, int64 ``[classes + 1, classes + 1]``, with "no class" last.

    Both are maps of the same size with 1 + the class index, or 0.
    """
    # 0 means no class and becomes the last index.
    one, other = ((np.asarray(found, np.int64) - 1) % (classes + 1) for found in (truth, predicted))
    counts = np.bincount((one * (classes + 1) + other).ravel(), minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)


def score(counts: npt.NDArray[np.int64]) -> Scores:
    """Metrics from the summed `confusion` of all images of a split."""
    actual, claimed = counts.sum(axis=1)[:-1], counts.sum(axis=0)[:-1]
    accuracy = float(counts.diagonal().sum() / counts.sum()) if actual.any() else float("nan")
    return Scores(shares_of(counts.diagonal()[:-1], actual, claimed), accuracy, counts)


def shares_of(right: npt.NDArray[Any], true: npt.NDArray[Any], said: npt.NDArray[Any]) -> dict[str, Share]:
    """Shares of pixels by class, with Dice, which equals F1."""
    counts = shares.of_counts(right, true, said)
    return counts | {"Dice": counts["F1"]}
