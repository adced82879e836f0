"""Metrics of classes of pixels, from counts of pixels by true and predicted class. Training validates with them, too.

Definitions: Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015, section 5 (IoU, pixel
accuracy); Dice, Measures of the amount of ecologic association between species, Ecology 26 (1945), doi:10.2307/1932409.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]; arrays have one entry for each class, NaN where the class has no true pixel.

    ``confusion`` is ``[true, predicted]`` in pixels, with those of no class last. A class that is never predicted has precision
    0. ``accuracy`` is of all pixels, those of no class among them; NaN where nothing is true.
    """

    iou: Any
    dice: Any
    precision: Any
    recall: Any
    accuracy: float
    confusion: Any

    @property
    def f1(self) -> Any:
        """The harmonic mean of precision and recall: of pixels it is Dice."""
        return self.dice

    def mean(self, metric: str) -> float:
        """The unweighted mean over the classes that have true pixels; NaN when none has."""
        values = getattr(self, metric)
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else float("nan")


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
    hits = counts.diagonal()[:-1].astype(float)
    actual, claimed = counts.sum(axis=1)[:-1], counts.sum(axis=0)[:-1]
    present = actual > 0

    def share(parts: Any, whole: Any) -> Any:
        return np.where(present, parts / np.maximum(whole, 1), np.nan)

    accuracy = float(counts.diagonal().sum() / counts.sum()) if present.any() else float("nan")
    return Scores(
        iou=share(hits, actual + claimed - hits),
        dice=share(2 * hits, actual + claimed),
        precision=share(hits, claimed),
        recall=share(hits, actual),
        accuracy=accuracy,
        confusion=counts,
    )
