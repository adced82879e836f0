"""Metrics of classes of pixels, from counts of pixels by true and predicted class. Training validates with them, too.

Definitions: Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015, section 5 (IoU, pixel
accuracy; its frequency weighted IU is the weighted IoU here, of the classes alone); Dice, Measures of the amount of ecologic
association between species, Ecology 26 (1945), doi:10.2307/1932409.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.shares import Share


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]: ``shares`` by name, IoU, Dice, precision, recall and F1, which of pixels is Dice.

    ``confusion`` is ``[true, predicted]`` in pixels, with those of no class last. ``accuracy`` is of all pixels, those of no
    class among them; NaN where nothing is true.
    """

    shares: dict[str, Share]
    accuracy: float
    confusion: Any


def confusion(truth: Any, predicted: Any, classes: int) -> Any:
    """Pixels by true and predicted class, int64 ``[classes + 1, classes + 1]``: no class comes last.

    Both are maps of one size, with the index of the class and one more, or 0.
    """
    # 0 stands for none, and becomes the last.
    one, other = ((np.asarray(found, np.int64) - 1) % (classes + 1) for found in (truth, predicted))
    counts = np.bincount((one * (classes + 1) + other).ravel(), minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)


def score(counts: Any) -> Scores:
    """Metrics of what `confusion` has counted, over all images of a split."""
    actual, claimed = counts.sum(axis=1)[:-1], counts.sum(axis=0)[:-1]
    accuracy = float(counts.diagonal().sum() / counts.sum()) if actual.any() else float("nan")
    return Scores(shares_of(counts.diagonal()[:-1], actual, claimed), accuracy, counts)


def shares_of(right: Any, true: Any, said: Any) -> dict[str, Share]:
    """Of pixels by class."""
    counts = shares.of_counts(right, true, said)
    return counts | {"Dice": counts["F1"]}
