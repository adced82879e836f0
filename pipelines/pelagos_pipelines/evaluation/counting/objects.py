"""Objects that were found and are true: average precision and what comes with it, as evaluation.detection has it.

A detection is a row: its score, at which of the thresholds of IoU it is right (bit i: at the i-th), and its IoU at the first.
Rows of equal score stand in the order of images, as COCO's evaluator takes them; an image that stands in a multiset several times
has all of its copies there.

All detections are sorted by score once. At any threshold, precision at a right detection is the weight of those that are right up
to it by the weight of all up to it; and a recall point is reached at a right detection. So only these need be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.evaluation import matching, shares
from pelagos_pipelines.evaluation.counting import tables
from pelagos_pipelines.evaluation.counting.tables import Sums, Table
from pelagos_pipelines.evaluation.detection import CONFIDENCES
from pelagos_pipelines.evaluation.matching import IOUS, Objects
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import Share

FOUND = {"image": "<i4", "class": "<i4", "score": "<f8", "right": "<u2", "iou": "<f8"}
TRUE = {"image": "<i4", "class": "<i4", "count": "<i4"}
_POINTS = np.linspace(0, 1, 101)
_LATE = np.flatnonzero(np.arange(101) / 100 < _POINTS)
"""Recall points that the evaluator has a rounding error too high: a recall that equals what one stands for does not reach it."""


def found(of: Objects) -> dict[str, Any]:
    """The table of detections, by image."""
    given = matching.assigned(of)
    bits: Any = np.arange(len(IOUS), dtype=np.uint16)[:, None]
    right = ((given >= 0).astype(np.uint16) << bits).sum(axis=0)
    iou = np.append(of.iou, 0.0)[given[0]]
    return tables.stacked(
        [{"image": of.images, "class": of.labels, "score": of.scores, "right": right, "iou": iou}], FOUND
    )


def true(samples: Sequence[Sample]) -> dict[str, Any]:
    """How many objects of each class are true of each image."""
    rows = []
    for number, sample in enumerate(samples):
        ids, counts = np.unique(sample.class_ids, return_counts=True)
        rows.append({"image": np.full(len(ids), number), "class": ids, "count": counts})
    return tables.stacked(rows, TRUE)


@dataclass(frozen=True)
class _Class:
    """The detections of a class by descending score: the image of each, and those that are right, by threshold."""

    image: Any
    right: Sequence[Any]
    iou: Any
    """Of those that are right at the first threshold."""
    above: Any
    """For each confidence, how many detections have no lower score."""
    right_above: Any
    """Likewise of those that are right at the first threshold."""

    def precision(self, weights: Any, objects: Any) -> tuple[Any, Any]:
        """Average precision ``[multisets, thresholds]``, and the counts of the detections that are right at the first one."""
        of_image = weights[:, self.image]
        claimed = np.cumsum(of_image, axis=1)
        areas, first = np.zeros((len(weights), len(IOUS))), np.zeros((len(weights), 0))
        for number, right in enumerate(self.right):
            hits = np.cumsum(of_image[:, right], axis=1)
            first = hits if number == 0 else first
            if not len(right):
                continue
            heights = hits / np.maximum(claimed[:, right], 1)
            np.maximum.accumulate(heights[:, ::-1], axis=1, out=heights[:, ::-1])
            reached = _reached(hits, objects)
            reached[:, 1:] -= reached[:, :-1].copy()
            areas[:, number] = np.einsum("ij,ij->i", heights, reached) / len(_POINTS)
        return areas, first

    def claimed(self, weights: Any) -> Any:
        """Detections with no lower score than each confidence, ``[multisets, confidences]``."""
        return _up_to(np.cumsum(weights[:, self.image], axis=1), self.above)


def _up_to(sums: Any, counts: Any) -> Any:
    padded = np.concatenate((np.zeros((len(sums), 1), sums.dtype), sums), axis=1)
    return padded[:, counts]


def _reached(hits: Any, objects: Any) -> Any:
    """How many recall points are reached, as the evaluator compares them."""
    hundredths = hits * 100.0 / np.maximum(objects, 1)[:, None]
    whole = np.floor(hundredths)
    exactly = (hundredths == whole) & np.isin(whole, _LATE)
    return whole + 1 - exactly


def _class_of(table: Table, label: int) -> _Class:
    rows = np.flatnonzero(table["class"] == label)
    rows = rows[np.argsort(table["image"][rows], kind="stable")]
    rows = rows[np.argsort(-table["score"][rows], kind="stable")]
    scores, right = table["score"][rows], table["right"][rows]
    by_threshold = [np.flatnonzero(right >> number & 1) for number in range(len(IOUS))]
    return _Class(
        table["image"][rows],
        by_threshold,
        table["iou"][rows][by_threshold[0]],
        len(rows) - np.searchsorted(scores[::-1], CONFIDENCES),
        len(by_threshold[0]) - np.searchsorted(scores[by_threshold[0]][::-1], CONFIDENCES),
    )


def counter(found: Table, true: Table, images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
    """What gives the metrics of `detection.Scores` for weights, by their names, with their ``confidence``."""
    of_class = [_class_of(found, label) for label in range(classes)]
    counted = Sums(true, "count", images, classes)

    def count(weights: Any) -> dict[str, Any]:
        samples = len(weights)
        objects = counted.of(weights)
        present = objects > 0
        areas = np.full((samples, classes, len(IOUS)), np.nan)
        hits, claimed, curves = [], [], np.zeros((samples, len(CONFIDENCES)))
        overlaps = []
        for label, each in enumerate(of_class):
            precision, first = each.precision(weights, objects[:, label])
            areas[:, label][present[:, label]] = precision[present[:, label]]
            hits.append(_up_to(first, each.right_above))
            claimed.append(each.claimed(weights))
            right = weights[:, each.image[each.right[0]]]
            overlaps.append([right * each.iou, right * (2 * each.iou / (1 + each.iou))])
            f1 = 2 * hits[-1] / np.maximum(claimed[-1] + objects[:, label, None], 1)
            # One after the other, as a mean over classes adds them: equal heights stay equal, of which the first is taken.
            curves += np.where(present[:, label, None], f1, 0.0)
        best = (curves / np.maximum(present.sum(axis=1), 1)[:, None]).argmax(axis=1)
        rows = np.arange(samples)
        chosen, all_of = (np.stack([one[rows, best] for one in each], axis=1) for each in (hits, claimed))
        sums = [_up_to_best(of_class, overlaps, kind, best) for kind in (0, 1)]
        counts = shares.of_counts(chosen, objects, all_of)
        counts |= {name: Share(each, chosen, objects) for name, each in zip(("IoU", "Dice"), sums, strict=True)}
        return {
            "confidence": np.where(present.any(axis=1), CONFIDENCES[best], np.nan),
            "mAP50": shares.mean(areas[:, :, 0]),
            "mAP75": shares.mean(areas[:, :, IOUS.searchsorted(0.75)]),
            "mAP50-95": shares.mean(areas.mean(axis=2)),
            **shares.averages(counts),
        }

    return count


def _up_to_best(of_class: Sequence[_Class], overlaps: Sequence[Sequence[Any]], kind: int, best: Any) -> Any:
    """Sums over detections that are right, ``[multisets, classes]``, at the best confidence of each multiset."""
    rows = np.arange(len(best))
    totals = [
        _up_to(np.cumsum(each[kind], axis=1), one.right_above)[rows, best]
        for one, each in zip(of_class, overlaps, strict=True)
    ]
    return np.stack(totals, axis=1)
