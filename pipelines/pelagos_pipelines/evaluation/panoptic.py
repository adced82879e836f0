"""Panoptic quality of segments that share the pixels of an image, for evaluation and for validation during training.

Source: Kirillov, He, Girshick, Rother and Dollar, Panoptic segmentation, CVPR 2019, doi:10.1109/CVPR.2019.00963, section 4.
Unlike there, no pixel is ignored: pixels without an annotation belong to no segment, and a predicted segment there is wrong. As
in panopticapi, a segment without a match is neither right nor wrong if more than half of it is in a crowd of its class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MATCHED = 0.5
"""A true and a predicted segment of one class match if their IoU is higher; then each has at most one match."""


@dataclass(frozen=True)
class Scores:
    """Quality in [0, 1]; arrays have one entry per class, NaN where the class has no true segment.

    ``sq``, the mean IoU of pairs, is also NaN without pairs, where it is undefined.
    """

    pq: npt.NDArray[np.float64]
    sq: npt.NDArray[np.float64]
    rq: npt.NDArray[np.float64]

    def mean(self, metric: str, chosen: npt.NDArray[np.bool_] | None = None) -> float:
        """The unweighted mean over the ``chosen`` classes that have the metric; NaN if none has."""
        values = getattr(self, metric)
        known = values[np.isfinite(values) & (True if chosen is None else chosen)]
        return float(known.mean()) if len(known) else float("nan")


@dataclass
class Counted:
    """Sums over images, each ``[classes]``: IoU of pairs, number of pairs, unmatched true segments, unmatched predicted ones."""

    iou: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    missed: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]

    @classmethod
    def none(cls, classes: int) -> Counted:
        """The sums before any image is added: all are 0."""
        return cls(np.zeros(classes), *(np.zeros(classes, np.int64) for _ in range(3)))

    def add(
        self, truth: tuple[Any, Any], found: tuple[Any, Any], crowds: int = 0
    ) -> tuple[list[tuple[int, int]], set[int]]:
        """Count an image: ``truth`` and ``found`` are each a map of segment numbers, 0 for none, and class ids from number 1 on.

        The last ``crowds`` true segments are crowd regions.

        Returns:
            The pairs as indices into both lists of class ids; and indices of predicted segments that are neither right nor wrong.
        """
        (true_map, true_ids), (found_map, found_ids) = truth, found
        objects = len(true_ids) - crowds
        columns = len(found_ids) + 1
        both = np.asarray(true_map, np.int64) * columns + found_map
        common = np.bincount(both.ravel(), minlength=(len(true_ids) + 1) * columns).reshape(-1, columns)
        rows, others = common.sum(axis=1), common.sum(axis=0)
        shared = common[1:, 1:]
        iou = shared / np.maximum(rows[1:, None] + others[None, 1:] - shared, 1)
        same = np.asarray(true_ids)[:, None] == np.asarray(found_ids)[None]
        inside = np.where(same, shared / np.maximum(others[None, 1:], 1), 0.0)[objects:].max(axis=0, initial=0.0)
        pairs = np.argwhere((same & (iou > MATCHED))[:objects])
        ignored = np.setdiff1d(np.flatnonzero(inside > MATCHED), pairs[:, 1])
        for row, column in pairs:
            self.iou[true_ids[row]] += iou[row, column]
            self.pairs[true_ids[row]] += 1
        known = np.concatenate((pairs[:, 1], ignored))
        for ids, left_out, alone in ((true_ids[:objects], pairs[:, 0], self.missed), (found_ids, known, self.wrong)):
            np.add.at(alone, np.delete(np.asarray(ids, np.int64), left_out), 1)
        return [(int(row), int(column)) for row, column in pairs], set(ignored.tolist())

    def scores(self) -> Scores:
        """The quality over all counted images."""
        present = self.pairs + self.missed > 0
        total = self.pairs + (self.missed + self.wrong) / 2
        pq, rq = (np.where(present, found / np.maximum(total, 0.5), np.nan) for found in (self.iou, self.pairs))
        sq = np.where(present & (self.pairs > 0), self.iou / np.maximum(self.pairs, 1), np.nan)
        return Scores(pq, sq, rq)


def score(images: Iterable[tuple[tuple[Any, Any], tuple[Any, Any]]], classes: int) -> Scores:
    """The quality over images; for the pairs of arguments see `Counted.add`."""
    counted = Counted.none(classes)
    for truth, found in images:
        counted.add(truth, found)
    return counted.scores()
