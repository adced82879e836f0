"""Counting for pixels of classes and for segments, by the definitions of evaluation.pixels and evaluation.panoptic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import pixels as evaluated
from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.counting import tables
from pelagos_pipelines.evaluation.counting.tables import Sums, Table
from pelagos_pipelines.evaluation.panoptic import Counted

PIXELS = {"image": "<i4", "class": "<i4", "hits": "<i8", "actual": "<i8", "claimed": "<i8"}
WHOLE = {"image": "<i4", "right": "<i8", "total": "<i8"}
"""Columns about all pixels of an image, including those without a class."""
SEGMENTS = {"image": "<i4", "class": "<i4", "iou": "<f8", "pairs": "<i4", "missed": "<i4", "wrong": "<i4"}
STUFF = {"class": "<i4"}


def pixels(confusions: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables from each image's `pixels.confusion`: by class, and of all pixels."""
    rows, whole = [], []
    for number, counts in enumerate(confusions):
        hits, actual, claimed = counts.diagonal()[:-1], counts.sum(axis=1)[:-1], counts.sum(axis=0)[:-1]
        ids = np.flatnonzero(actual + claimed)
        shown = {"hits": hits[ids], "actual": actual[ids], "claimed": claimed[ids]}
        rows.append({"image": np.full(len(ids), number), "class": ids, **shown})
        whole.append({"image": [number], "right": [counts.diagonal().sum()], "total": [counts.sum()]})
    return tables.stacked(rows, PIXELS), tables.stacked(whole, WHOLE)


def counter_of_pixels(found: Table, whole: Table, images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
    """A function of weights that returns accuracy and the averages of `pixels.Scores`, by their names."""
    hits_of, actual_of, claimed_of = (Sums(found, name, images, classes) for name in ("hits", "actual", "claimed"))
    of_all = {**whole, "class": np.zeros(len(whole["image"]), int)}
    right_of, total_of = (Sums(of_all, name, images, 1) for name in ("right", "total"))

    def count(weights: npt.NDArray[Any]) -> dict[str, Any]:
        hits, actual, claimed = (each.of(weights) for each in (hits_of, actual_of, claimed_of))
        right, total = (each.of(weights)[:, 0] for each in (right_of, total_of))
        accuracy = tables.share(right, total, (actual > 0).any(axis=1))
        return {"pixelAccuracy": accuracy, **shares.averages(evaluated.shares_of(hits, actual, claimed))}

    return count


def segments(counted: Sequence[Counted]) -> dict[str, Any]:
    """The table from the counts of each image."""
    rows = []
    for number, one in enumerate(counted):
        ids = np.flatnonzero(one.pairs + one.missed + one.wrong)
        shown = {"iou": one.iou[ids], "pairs": one.pairs[ids], "missed": one.missed[ids], "wrong": one.wrong[ids]}
        rows.append({"image": np.full(len(ids), number), "class": ids, **shown})
    return tables.stacked(rows, SEGMENTS)


def counter_of_segments(found: Table, stuff: Table, images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
    """A function of weights that returns the means of `panoptic.Scores` by their names: of all classes, of things, and of stuff.

    ``stuff`` has the classes that are stuff in the whole split, independently of the counted images.
    """
    sums = {name: Sums(found, name, images, classes) for name in ("iou", "pairs", "missed", "wrong")}
    is_stuff = np.isin(np.arange(classes), stuff["class"])

    def count(weights: npt.NDArray[np.int32]) -> dict[str, Any]:
        iou, pairs, missed, wrong = (each.of(weights) for each in sums.values())
        present = pairs + missed > 0
        total = np.maximum(pairs + (missed + wrong) / 2, 0.5)
        values = {
            "PQ": np.where(present, iou / total, np.nan),
            "SQ": tables.share(iou, pairs, present & (pairs > 0)),
            "RQ": np.where(present, pairs / total, np.nan),
        }
        kinds: dict[str, Any] = {"": True, "-things": ~is_stuff, "-stuff": is_stuff}
        return {
            f"{name}{kind}": shares.mean(of_class, chosen)
            for kind, chosen in kinds.items()
            for name, of_class in values.items()
        }

    return count
