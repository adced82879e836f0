"""Panoptic quality, of segments that share the pixels of an image. Training validates with it, too.

Source: Kirillov, He, Girshick, Rother and Dollar, Panoptic segmentation, CVPR 2019, doi:10.1109/CVPR.2019.00963, section 4. Here
no pixel is left out of the judgement: what no annotation covers is of no segment, and a segment that is found there is wrong.
A segment is neither right nor wrong when it is of no true one, and more than half of it lies in a crowd of its class, as
panopticapi has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

MATCHED = 0.5
"""A true and a found segment of one class are a pair when their IoU is higher; each is in one pair at most, then."""


@dataclass(frozen=True)
class Scores:
    """Quality in [0, 1], arrays have one entry for each class, NaN where the class has no true segment.

    ``sq``, the mean IoU of pairs, is NaN as well where there is no pair: there is nothing that it is the mean of.
    """

    pq: Any
    sq: Any
    rq: Any

    def mean(self, metric: str, chosen: Any = None) -> float:
        """The unweighted mean over the classes that have it, of those with a true entry in ``chosen``; NaN when none has."""
        values = getattr(self, metric)
        known = values[np.isfinite(values) & (True if chosen is None else chosen)]
        return float(known.mean()) if len(known) else float("nan")


@dataclass
class Counted:
    """Sums over images, each ``[classes]``: IoU of pairs, pairs, and segments that are true or found alone."""

    iou: Any
    pairs: Any
    missed: Any
    wrong: Any

    @classmethod
    def none(cls, classes: int) -> Counted:
        """Of no image."""
        return cls(np.zeros(classes), *(np.zeros(classes, np.int64) for _ in range(3)))

    def add(
        self, truth: tuple[Any, Any], found: tuple[Any, Any], crowds: int = 0
    ) -> tuple[list[tuple[int, int]], set[int]]:
        """Count an image: of both sides the map of segments, which has 0 for none, and their class ids, from that of number 1 on.

        The last ``crowds`` true ones are regions with objects that nobody drew one by one.

        Returns:
            The pairs: places in the class ids of both sides; and places in those of what was found that are neither right nor
            wrong.
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
        """The quality of all images that were counted."""
        present = self.pairs + self.missed > 0
        total = self.pairs + (self.missed + self.wrong) / 2
        pq, rq = (np.where(present, found / np.maximum(total, 0.5), np.nan) for found in (self.iou, self.pairs))
        sq = np.where(present & (self.pairs > 0), self.iou / np.maximum(self.pairs, 1), np.nan)
        return Scores(pq, sq, rq)


def score(images: Iterable[tuple[tuple[Any, Any], tuple[Any, Any]]], classes: int) -> Scores:
    """Quality over images, see `Counted.add`."""
    counted = Counted.none(classes)
    for truth, found in images:
        counted.add(truth, found)
    return counted.scores()
