"""Matches predicted objects with true ones, for all images of a split at once, independently of the kind of objects.

Called by metrics and figures. Independent of training frameworks. `Places` defines where objects are and how they overlap; the
default is upright boxes. Only pairs within an image that overlap enough are kept, so that thousands of objects in one image cost
no more than the same number in many images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation.samples import Sample

IOUS = np.linspace(0.5, 0.95, 10)
"""The IoU thresholds of matches over which mAP50-95 is averaged."""
_AT_ONCE = 1_000_000
"""Number of pairs that are processed at once, which bounds memory."""
Pairs = tuple[Any, Any, Any]
"""``[pairs]``: indices of predicted and of true objects, both over all images, and their IoU."""


@dataclass(frozen=True)
class Places:
    """Functions that return the places of objects, as arrays with an entry for each object of a sample or a prediction.

    For each of several images, ``overlaps`` yields the IoU ``[n, m]`` of its n predicted and m true entries. ``outline`` returns
    the points ``[k, 2]`` around an entry, in pixels.
    """

    true: Callable[[Sample], Any]
    found: Callable[[Any], Any]
    overlaps: Callable[[Sequence[Any], Sequence[Any]], Iterator[Any]]
    outline: Callable[[Any], Any]
    crowds: Callable[[Sample], Any]
    """Returns the crowds of a sample, in the same form."""
    shares: Callable[[Any, Any], Any]
    """Returns the share of each of n found entries that is in each of m crowds, ``[n, m]``, for one image."""
    pairs: Callable[[Sequence[Any], Sequence[Any]], Pairs] | None = None
    """Returns the pairs of all images with an IoU of IOUS[0] or more, if that is possible without all ``overlaps``."""

    def around(self, place: Any) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of the upright box around an entry."""
        points = self.outline(place)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def box_iou(found: Sequence[Any], truth: Sequence[Any]) -> Iterator[Any]:
    """For each image, COCO's IoU of boxes ``[n, 4]`` and ``[m, 4]``, given as x1, y1, x2, y2."""
    from pycocotools import mask

    (ones, starts), (others, bounds) = _sides(found), _sides(truth)
    for number in range(len(found)):
        start, end, first, last = starts[number], starts[number + 1], bounds[number], bounds[number + 1]
        if start == end or first == last:
            yield np.zeros((end - start, last - first))
        else:
            yield mask.iou(ones[start:end], others[first:last], [0] * (last - first))


def box_shares(found: npt.NDArray[np.float32], crowds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """COCO's overlap of boxes ``[n, 4]`` with crowds ``[m, 4]``: the intersection divided by the box's area."""
    from pycocotools import mask

    result: npt.NDArray[np.float64] = mask.iou(_sides([found])[0], _sides([crowds])[0], [1] * len(crowds))
    return result


def _crowd_boxes(sample: Sample) -> npt.NDArray[np.float64]:
    sides = np.array([crowd.sides for crowd in sample.crowds], float).reshape(-1, 4)
    sides[:, 2:] += sides[:, :2]
    return sides


def _sides(boxes: Sequence[Any]) -> tuple[Any, list[int]]:
    """All images' boxes as left, top, width and height, and the offset of each image."""
    corners = np.concatenate([np.zeros((0, 4)), *boxes])
    corners[:, 2:] -= corners[:, :2]
    return corners, _bounds(boxes)


def _bounds(parts: Sequence[Any]) -> list[int]:
    return [0, *np.cumsum([len(part) for part in parts], dtype=int).tolist()]


def box_pairs(found: Sequence[Any], truth: Sequence[Any]) -> Pairs:
    """Pairs of boxes with COCO's IoU.

    With an IoU of at least one half, the intersection is at least half as wide as each box. So the true box starts at most the
    other box's width to the left of it, or half of that to the right; and likewise vertically.
    """
    (ones, starts), (others, bounds) = _sides(found), _sides(truth)
    kept: list[Pairs] = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    if len(ones) and len(others):
        # Place all images side by side, far enough apart that boxes of different images cannot overlap.
        left = min(ones[:, 0].min(), others[:, 0].min())
        step = max(ones[:, 0].max(), others[:, 0].max()) - left + 2 * ones[:, 2].max() + 1
        places, other_places = (
            np.repeat(np.arange(len(ends) - 1), np.diff(ends)) * step + boxes[:, 0] - left
            for boxes, ends in ((ones, starts), (others, bounds))
        )
        order = np.argsort(other_places, kind="stable")
        blur = 4 * np.spacing(step * len(found))
        first = other_places[order].searchsorted(places - ones[:, 2] - blur)
        counts = other_places[order].searchsorted(places + ones[:, 2] / 2 + blur, side="right") - first
        tops, groups = others[order, 1], np.cumsum(counts) // _AT_ONCE
        lowest, highest = ones[:, 1] - ones[:, 3] - blur, ones[:, 1] + ones[:, 3] / 2 + blur
        for rows in np.split(np.arange(len(ones)), np.flatnonzero(np.diff(groups)) + 1):
            times = counts[rows]
            place: Any = np.arange(times.sum()) + np.repeat(first[rows] - np.cumsum(times) + times, times)
            top = tops[place]
            near = np.flatnonzero((top >= np.repeat(lowest[rows], times)) & (top <= np.repeat(highest[rows], times)))
            one, other = np.repeat(rows, times)[near], order[place[near]]
            iou = _iou(ones[one], others[other])
            chosen = iou >= IOUS[0]
            kept.append((one[chosen], other[chosen], iou[chosen]))
    one, other, iou = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return one, other, iou


def _iou(ones: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pairwise IoU of boxes ``[n, 4]`` (left, top, width, height), with COCO's rounding."""
    ends, other_ends = ones[:, :2] + ones[:, 2:], others[:, :2] + others[:, 2:]
    common = np.minimum(ends, other_ends) - np.maximum(ones[:, :2], others[:, :2])
    area = np.where((common > 0).all(axis=1), common[:, 0] * common[:, 1], 0.0)
    whole = ones[:, 2] * ones[:, 3] + others[:, 2] * others[:, 3] - area
    return area / np.where(whole > 0, whole, 1.0)


BOXES = Places(
    true=lambda sample: sample.boxes,
    found=lambda predicted: predicted.boxes,
    overlaps=box_iou,
    outline=lambda box: np.asarray(box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),
    crowds=_crowd_boxes,
    shares=box_shares,
    pairs=box_pairs,
)


@dataclass(frozen=True)
class Objects:
    """All objects of a split, image by image: the predicted ones ``[found]``, the true ones ``[true]``, and ``[pairs]`` of both.

    Pairs have an IoU of IOUS[0] or more; ``found`` and ``true`` are their indices, regardless of classes.
    """

    images: npt.NDArray[np.int64]
    """``[found]``: the image of each predicted object."""
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    true_images: npt.NDArray[np.int64]
    """``[true]``: the image of each true object."""
    true_labels: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    """``[pairs]``: the predicted object of each pair."""
    true: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    inside: npt.NDArray[np.float64]
    """``[found]``: the largest share of each that is in a crowd of its class; 0 without one."""

    def ignored(self, given: npt.NDArray[np.int64], number: int = 0) -> npt.NDArray[np.bool_]:
        """``[found]``: whether each predicted object is ignored at a threshold, as in COCO's evaluator.

        It is if it matches no true object, and lies in a crowd. ``given`` is `assigned` at that threshold, ``number`` the index
        in IOUS.
        """
        found: npt.NDArray[np.bool_] = (given < 0) & (self.inside >= IOUS[number])
        return found


def objects(samples: Sequence[Sample], found: Sequence[Any], places: Places = BOXES) -> Objects:
    """The objects of ``samples`` and of their predictions ``found``, in the same order."""
    truths, founds = [places.true(sample) for sample in samples], [places.found(one) for one in found]
    counts, true_counts = [len(one.scores) for one in found], [len(sample.class_ids) for sample in samples]
    ones, others, ious = places.pairs(founds, truths) if places.pairs else _pairs(founds, truths, places)
    nothing: Any = np.zeros(0, int)
    return Objects(
        images=np.repeat(np.arange(len(found)), counts),
        labels=np.concatenate([nothing, *(one.class_ids for one in found)]),
        scores=np.concatenate([np.zeros(0), *(one.scores for one in found)]),
        true_images=np.repeat(np.arange(len(samples)), true_counts),
        true_labels=np.concatenate([nothing, *(sample.class_ids for sample in samples)]),
        found=ones,
        true=others,
        iou=ious,
        inside=np.concatenate([np.zeros(0), *map(functools.partial(inside, places), samples, found)]),
    )


def inside(places: Places, sample: Sample, predicted: Any) -> npt.NDArray[np.float64]:
    """For each predicted object of a sample, `Objects.inside`."""
    if not len(sample.crowds) or not len(predicted.scores):
        return np.zeros(len(predicted.scores))
    same = np.asarray(predicted.class_ids)[:, None] == np.asarray(sample.crowd_ids)[None]
    found: npt.NDArray[np.float64] = np.where(
        same, places.shares(places.found(predicted), places.crowds(sample)), 0.0
    ).max(axis=1)
    return found


def _pairs(founds: Sequence[Any], truths: Sequence[Any], places: Places) -> Pairs:
    """The pairs from the overlaps of all objects in each image."""
    kept: list[Pairs] = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    tables: list[Any] = []
    cells, starts, bounds = 0, np.array(_bounds(founds)), np.array(_bounds(truths))
    for number, table in enumerate(places.overlaps(founds, truths)):
        tables.append(table.ravel())
        cells += table.size
        if cells >= _AT_ONCE or number + 1 == len(founds):
            every, ends = np.concatenate(tables), np.cumsum([len(each) for each in tables])
            chosen = np.flatnonzero(every >= IOUS[0])
            within = ends.searchsorted(chosen, side="right")
            image = within + number + 1 - len(tables)
            row, column = np.divmod(chosen - (ends - [len(each) for each in tables])[within], np.diff(bounds)[image])
            kept.append((starts[image] + row, bounds[image] + column, every[chosen]))
            tables, cells = [], 0
    one, other, iou = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return one, other, iou


def assigned(of: Objects) -> npt.NDArray[np.int64]:
    """The pair by which each predicted object is right, or -1, for each threshold of IOUS: ``[thresholds, found]``.

    As in COCO's evaluator, predictions of a class in an image choose by descending score, equal scores in order; each takes the
    free object with the highest IoU, the last of several equal ones.
    """
    rank: Any = np.empty(len(of.scores), int)
    rank[np.argsort(-of.scores, kind="stable")] = np.arange(len(of.scores))
    same = np.flatnonzero(of.labels[of.found] == of.true_labels[of.true])
    # Sorted by the order of choosing, then by preference. True objects prefer the prediction that chooses first.
    order = same[np.lexsort((-of.true[same], -of.iou[same], rank[of.found[same]]))]
    given = np.full((len(IOUS), len(of.scores)), -1)
    for number, threshold in enumerate(IOUS):
        kept = order[of.iou[order] >= threshold]
        pairs = kept[_stable(of.found[kept], of.true[kept], np.arange(len(kept)))]
        given[number, of.found[pairs]] = pairs
    return given


def nearest(of: Objects, chosen: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Match true objects with ``chosen`` ``[found]`` ones by descending IoU, each at most once, regardless of classes.

    Returns:
        The indices of the true objects, and those of the predicted ones.
    """
    kept = np.flatnonzero(chosen[of.found])
    kept = kept[np.lexsort((of.true[kept], -of.iou[kept], of.found[kept]))]
    ranks: Any = np.empty(len(kept), int)
    ranks[np.lexsort((of.found[kept], of.true[kept], -of.iou[kept]))] = np.arange(len(kept))
    pairs = kept[_stable(of.found[kept], of.true[kept], ranks)]
    return of.true[pairs], of.found[pairs]


def _stable(
    found: npt.NDArray[np.int64], true: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Indices of the pairs of a stable matching: no two objects prefer each other to their matches.

    All ``found`` objects propose at once to their most preferred object. Each true object accepts the proposal with the lowest
    rank; rejected and replaced ones propose to their next preference (Gale and Shapley 1962, doi:10.2307/2312726). If all
    preferences follow from one order of the pairs, the stable matching is unique and equals the sequential greedy one.
    Args:
        found: ``[pairs]``, grouped by object, in order of its preference.
        true: ``[pairs]``, the true objects.
        ranks: the true object's preference for the pair, lowest first, a permutation.
    """
    starts: Any = np.flatnonzero(np.diff(found, prepend=-1))
    ends: Any = np.append(starts[1:], len(found))
    who: Any = np.repeat(np.arange(len(starts)), ends - starts)
    place_of = np.argsort(ranks)
    best = np.full(int(true.max(initial=-1)) + 1, len(found))
    asked, asking = starts.copy(), np.arange(len(starts))
    while len(asking):
        wanted, offered = true[asked[asking]], ranks[asked[asking]]
        before = best[wanted]
        np.minimum.at(best, wanted, offered)
        after = best[wanted]
        left = who[place_of[before[(before < len(found)) & (before != after)]]]
        without = np.unique(np.concatenate((asking[after != offered], left)))
        asked[without] += 1
        asking = without[asked[without] < ends[without]]
    result: npt.NDArray[np.int64] = place_of[best[best < len(found)]]
    return result
