"""Counting for objects: average precision and related metrics, by the definitions of evaluation.detection.

A detection is a row: its score, the IoU thresholds at which it is right (bit i for the i-th), and its IoU at the first one. Above
these bits is the number of thresholds, from the lowest on, at which it is in a crowd and therefore not wrong. Rows of equal score
are in the order of images, as in COCO's evaluator; repeated images of a multiset are adjacent there. All detections are sorted by
score once. At any threshold, precision at a right detection is the weight of right detections up to it divided by the weight of
all up to it, and recall points are only reached at right detections. So only these need be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
"""Recall points that a rounding error makes too high in COCO's evaluator, so that an exactly equal recall does not reach them."""


def found(of: Objects) -> dict[str, Any]:
    """The table of detections, sorted by image."""
    given = matching.assigned(of)
    bits: Any = np.arange(len(IOUS), dtype=np.uint16)[:, None]
    right = ((given >= 0).astype(np.uint16) << bits).sum(axis=0)
    right += (IOUS.searchsorted(of.inside, side="right") << len(IOUS)).astype(np.uint16)
    iou = np.append(of.iou, 0.0)[given[0]]
    return tables.stacked(
        [{"image": of.images, "class": of.labels, "score": of.scores, "right": right, "iou": iou}], FOUND
    )


def true(samples: Sequence[Sample]) -> dict[str, Any]:
    """The table with the number of true objects of each class in each image."""
    rows = []
    for number, sample in enumerate(samples):
        ids, counts = np.unique(sample.class_ids, return_counts=True)
        rows.append({"image": np.full(len(ids), number), "class": ids, "count": counts})
    return tables.stacked(rows, TRUE)


@dataclass(frozen=True)
class _Class:
    """The detections of a class by descending score, with the ``image`` of each.

    By IoU threshold, ``judged`` are the indices of detections that are not ignored because of a crowd (None: all), and ``right``
    the positions of the right ones among these.
    """

    image: npt.NDArray[np.int32]
    judged: Sequence[Any]
    right: Sequence[Any]
    iou: npt.NDArray[np.float64]
    """The IoU of the detections that are right at the first threshold."""
    above: npt.NDArray[np.int64]
    """For each confidence, the number of detections judged at the first threshold with at least that score."""
    right_above: npt.NDArray[np.int64]
    """The same for those that are right at the first threshold."""

    def sums(self, weights: npt.NDArray[np.int32]) -> _Sums:
        """Cumulative sums up to each detection, for each multiset."""
        of_image = weights[:, self.image]
        of_judged = self._of_judged(of_image, 0)
        of_right = of_judged[:, self.right[0]]
        overlaps = (np.cumsum(of_right * each, axis=1) for each in (self.iou, 2 * self.iou / (1 + self.iou)))
        return _Sums(of_image, np.cumsum(of_judged, axis=1), np.cumsum(of_right, axis=1), *overlaps)

    def precision(self, sums: _Sums, objects: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Average precision ``[multisets, thresholds]``."""
        areas = np.zeros((len(objects), len(IOUS)))
        for number, right in enumerate(self.right):
            if not len(right):
                continue
            is_first, of_judged = self.judged[number] is self.judged[0], self._of_judged(sums.of_image, number)
            claimed = sums.claimed if is_first else np.cumsum(of_judged, axis=1)
            hits = sums.hits if number == 0 else np.cumsum(of_judged[:, right], axis=1)
            heights = hits / np.maximum(claimed[:, right], 1)
            np.maximum.accumulate(heights[:, ::-1], axis=1, out=heights[:, ::-1])
            reached = _reached(hits, objects)
            reached[:, 1:] -= reached[:, :-1].copy()
            areas[:, number] = np.einsum("ij,ij->i", heights, reached) / len(_POINTS)
        return areas

    def _of_judged(self, of_image: npt.NDArray[np.int32], number: int) -> npt.NDArray[np.int32]:
        """The columns of the detections that are judged at a threshold."""
        return of_image if self.judged[number] is None else of_image[:, self.judged[number]]


@dataclass(frozen=True)
class _Sums:
    """For one class, ``[multisets, detections]``: the multiplicity of each detection's image, and sums from the best detection.

    The sums are at the first threshold: ``claimed`` counts the judged detections, and ``hits`` the right ones, whose IoU and Dice
    coefficients are in ``iou`` and ``dice``.
    """

    of_image: npt.NDArray[np.int32]
    claimed: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    dice: npt.NDArray[np.float64]


def _up_to(sums: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sums of the first ``counts`` entries, for each multiset."""
    return np.concatenate((np.zeros((len(sums), 1), sums.dtype), sums), axis=1)[:, counts]


def _each_up_to(sums: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The same with a different count for each multiset."""
    return np.concatenate((np.zeros((len(sums), 1), sums.dtype), sums), axis=1)[np.arange(len(sums)), counts]


def _reached(hits: npt.NDArray[Any], objects: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The number of recall points that are reached, with the evaluator's rounding."""
    hundredths = hits * 100.0 / np.maximum(objects, 1)[:, None]
    whole = np.floor(hundredths)
    exactly = (hundredths == whole) & np.isin(whole, _LATE)
    found: npt.NDArray[np.float64] = whole + 1 - exactly
    return found


def _classes_of(table: Table, classes: int) -> list[_Class]:
    # Within a class by descending score, then by image, then in the order within the image.
    order = np.lexsort((table["image"], -table["score"], table["class"]))
    ends = np.cumsum(np.bincount(table["class"], minlength=classes))[:-1]
    return [_class_of(table, rows) for rows in np.split(order, ends)]


def _class_of(table: Table, rows: npt.NDArray[np.int64]) -> _Class:
    scores, bits = table["score"][rows], table["right"][rows]
    is_right = [(bits >> number & 1).astype(bool) for number in range(len(IOUS))]
    is_judged = [right | (bits >> len(IOUS) <= number) for number, right in enumerate(is_right)]
    claimed, hits = scores[is_judged[0]], scores[is_right[0]]
    return _Class(
        table["image"][rows],
        [None if judged.all() else np.flatnonzero(judged) for judged in is_judged],
        [np.flatnonzero(right[judged]) for right, judged in zip(is_right, is_judged, strict=True)],
        table["iou"][rows][is_right[0]],
        len(claimed) - np.searchsorted(claimed[::-1], CONFIDENCES),
        len(hits) - np.searchsorted(hits[::-1], CONFIDENCES),
    )


def counter(found: Table, true: Table, images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
    """A function of weights that returns the metrics of `detection.Scores` by their names, with their ``confidence``."""
    of_class = _classes_of(found, classes)
    counted = Sums(true, "count", images, classes)

    def count(weights: npt.NDArray[np.int32]) -> dict[str, Any]:
        objects = counted.of(weights)
        present = objects > 0
        areas = np.full((len(weights), classes, len(IOUS)), np.nan)
        each, curves = [], np.zeros((len(weights), len(CONFIDENCES)))
        for label, one in enumerate(of_class):
            sums, known = one.sums(weights), present[:, label]
            areas[known, label] = one.precision(sums, objects[:, label])[known]
            each.append(sums)
            if len(one.image):
                claimed = _up_to(sums.claimed, one.above)
                f1 = 2 * _up_to(sums.hits, one.right_above) / np.maximum(claimed + objects[:, label, None], 1)
                # Added in the order of a mean over classes, so that equal maxima stay equal and the first one wins.
                curves += np.where(known[:, None], f1, 0.0)
        best = (curves / np.maximum(present.sum(axis=1), 1)[:, None]).argmax(axis=1)
        pairs = [*zip(of_class, each, strict=True)]
        claimed = np.stack([_each_up_to(sums.claimed, one.above[best]) for one, sums in pairs], axis=1)
        hits, iou, dice = (
            np.stack([_each_up_to(getattr(sums, name), one.right_above[best]) for one, sums in pairs], axis=1)
            for name in ("hits", "iou", "dice")
        )
        counts = shares.of_counts(hits, objects, claimed)
        counts |= {"IoU": Share(iou, hits, objects), "Dice": Share(dice, hits, objects)}
        return {
            "confidence": np.where(present.any(axis=1), CONFIDENCES[best], np.nan),
            "mAP50": shares.mean(areas[:, :, 0]),
            "mAP75": shares.mean(areas[:, :, IOUS.searchsorted(0.75)]),
            "mAP50-95": shares.mean(areas.mean(axis=2)),
            **shares.averages(counts),
        }

    return count
