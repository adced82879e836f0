"""Detection metrics: objects are matched as in COCO's reference evaluator, and average precision is computed from that.

Called by evaluation.report with predictions in pixels of the original images. Independent of training frameworks. Average
precision is COCO's (Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48): the mean of 101 interpolated precisions, at IoU 0.50
(mAP50), at 0.75 (mAP75) and averaged over IoU 0.50 to 0.95 in steps of 0.05 (mAP50-95), over all given detections; their number
per image is limited earlier, by the predictor. As in COCO, a detection that matches no object and is in a crowd of its class is
neither right nor wrong, in all metrics here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import matching, shares
from pelagos_pipelines.evaluation.matching import BOXES, IOUS, Objects, Places
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import Share

CONFIDENCES = np.linspace(0, 1, 1001)
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]; arrays have one entry per class, NaN where the class has no true object in the split.

    ``shares`` by name hold at ``confidence``: the one with the highest F1, averaged over classes, at IoU 0.50, as ultralytics
    reports them; NaN where the split has no true object. Precision, recall and F1 are of objects; IoU is the mean of those that
    are right, and Dice the mean of their Dice coefficients, 2 IoU / (1 + IoU).
    """

    confidence: float
    map50: npt.NDArray[np.float64]
    map75: npt.NDArray[np.float64]
    map50_95: npt.NDArray[np.float64]
    shares: dict[str, Share]
    curves: npt.NDArray[np.float64]
    """Precision at IoU 0.50 on RECALLS: ``[classes, recalls]``."""
    by_confidence: dict[str, Share]
    """Precision, recall and F1 at IoU 0.50 on CONFIDENCES: ``[confidences, classes]``."""


def score(samples: Sequence[Sample], found: Sequence[Any], classes: int, places: Places = BOXES) -> Scores:
    """Metrics of predictions ``found`` against ``samples``, in the same order.

    ``found`` must include low confidences (down to 0.001), because average precision integrates over all of them.
    """
    return of_objects(matching.objects(samples, found, places), classes)


def of_objects(of: Objects, classes: int) -> Scores:
    """Like `score`, for objects whose pairs are known."""
    given = matching.assigned(of)
    iou = np.append(of.iou, 0.0)[given[0]]
    boxes = np.bincount(of.true_labels, minlength=classes)
    # Within a class by descending score, then by image, as in COCO.
    order = np.argsort(-of.scores, kind="stable")
    order = order[np.argsort(of.labels[order], kind="stable")]
    precision, counted, sums = np.full((classes, len(IOUS), len(RECALLS)), np.nan), [], []
    judged = np.stack([~of.ignored(each, number) for number, each in enumerate(given)])
    for label, rows in enumerate(np.split(order, np.cumsum(np.bincount(of.labels, minlength=classes))[:-1])):
        right = [given[number, rows[judged[number, rows]]] >= 0 for number in range(len(IOUS))]
        if boxes[label]:
            precision[label] = [_precision(np.flatnonzero(each) + 1, boxes[label]) for each in right]
        kept = rows[judged[0, rows]]
        above = len(kept) - np.searchsorted(of.scores[kept[::-1]], CONFIDENCES)
        each = np.stack((right[0], iou[kept], 2 * iou[kept] / (1 + iou[kept])))
        sums.append(np.concatenate((np.zeros((3, 1)), each.cumsum(axis=1)), axis=1)[:, above])
        counted.append(above)
    said, (hits, overlaps, dices) = np.stack(counted, axis=1), np.stack(sums, axis=2)
    by_confidence = shares.of_counts(hits, np.broadcast_to(boxes, said.shape), said)
    f1 = np.ascontiguousarray((2 * hits / np.maximum(said + boxes, 1)).T[boxes > 0])
    best = int(f1.mean(axis=0).argmax()) if boxes.any() else 0
    at_best = shares.of_counts(hits[best], boxes, said[best])
    at_best |= {"IoU": Share(overlaps[best], hits[best], boxes), "Dice": Share(dices[best], hits[best], boxes)}
    return Scores(
        confidence=float(CONFIDENCES[best]) if boxes.any() else math.nan,
        map50=precision[:, 0].mean(axis=1),
        map75=precision[:, IOUS.searchsorted(0.75)].mean(axis=1),
        map50_95=precision.mean(axis=(1, 2)),
        shares=at_best,
        curves=precision[:, 0],
        by_confidence={name: by_confidence[name] for name in ("precision", "recall", "F1")},
    )


def _precision(places: npt.NDArray[np.int64], boxes: int) -> npt.NDArray[np.float64]:
    """Interpolated precision on RECALLS, as in COCO's evaluator.

    ``places``: ascending ranks of the right detections, from 1 by descending score. Only there do precision and recall rise.
    """
    hits = np.arange(1, len(places) + 1)
    heights = np.maximum.accumulate((hits / (places + np.spacing(1)))[::-1])[::-1]
    return np.append(heights, 0.0)[np.searchsorted(hits / boxes, RECALLS)]


def confusion(of: Objects, classes: int, confidence: float) -> npt.NDArray[np.int64]:
    """The confusion matrix ``[true class, predicted class]`` of objects at ``confidence`` and IoU 0.50; the last index is
    background.

    Matching is greedy by IoU and ignores classes, so that confusions between classes are visible. Detections in crowds that match
    no object are not counted.
    """
    chosen = of.scores >= confidence
    true, found = matching.nearest(of, chosen)
    missed: Any = np.delete(of.true_labels, true)
    wrong = of.labels[np.setdiff1d(np.flatnonzero(chosen & (of.inside < IOUS[0])), found)]
    rows = np.concatenate((of.true_labels[true], missed, np.full(len(wrong), classes)))
    columns = np.concatenate((of.labels[found], np.full(len(missed), classes), wrong))
    counts = np.bincount(rows * (classes + 1) + columns, minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)


@dataclass(frozen=True)
class Judged:
    """Indices of an image's predictions: those that are right, and those that are ``ignored`` because they are in crowds."""

    right: set[int] = field(default_factory=set)
    ignored: set[int] = field(default_factory=set)

    def f1(self, true: int, found: int) -> float:
        """F1 of the image with these numbers of true and found objects; 1 without any."""
        objects = true + found - len(self.ignored)
        return 2 * len(self.right) / objects if objects else 1.0

    def surest_wrong(self, scores: npt.NDArray[Any]) -> float:
        """The highest score [n] of a wrong prediction; NaN without one."""
        known = self.right | self.ignored
        return max((float(score) for place, score in enumerate(scores) if place not in known), default=math.nan)


def judged(of: Objects, images: int, confidence: float) -> list[Judged]:
    """For each image, the predictions with at least this confidence that match a true object of their class, or are ignored.

    Uses the matches of `confusion`.
    """
    chosen = of.scores >= confidence
    true, found = matching.nearest(of, chosen)
    is_right: Any = np.zeros(len(chosen), bool)
    is_right[found[of.true_labels[true] == of.labels[found]]] = True
    is_ignored = of.inside >= IOUS[0]
    is_ignored[found] = False
    image = of.images[chosen]
    by_image = [Judged() for _ in range(images)]
    for name, which in (("right", is_right), ("ignored", is_ignored)):
        places = np.flatnonzero(which[chosen])
        for number, place in zip(image[places], places - image.searchsorted(image[places]), strict=True):
            getattr(by_image[number], name).add(int(place))
    return by_image
