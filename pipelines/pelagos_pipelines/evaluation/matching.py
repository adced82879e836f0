"""Which objects that were found are which true ones: all images of a split at once, whatever objects look like.

Called by what measures and draws. Knows no training framework. Where an object is, and what two of them have in common, is said
by `Places`: upright boxes, if nothing else is said. Only pairs of objects of one image that overlap enough are kept, so that
what follows takes no longer for thousands of objects in an image than for as many in many.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.evaluation.samples import Sample

IOUS = np.linspace(0.5, 0.95, 10)
"""Smallest overlaps of a match, over which mAP50-95 is averaged."""
_AT_ONCE = 1_000_000
"""Pairs that are looked at together."""
Pairs = tuple[Any, Any, Any]
"""``[pairs]``: which object that was found, which true one, both counted over all images, and their IoU."""


@dataclass(frozen=True)
class Places:
    """Where objects are, an array with an entry for each: the true ones of a sample, and those of a prediction.

    ``overlaps`` gives for each of several images the IoU ``[n, m]`` of its n found and m true entries, and ``outline`` the points
    ``[k, 2]`` around one, in pixels.
    """

    true: Callable[[Sample], Any]
    found: Callable[[Any], Any]
    overlaps: Callable[[Sequence[Any], Sequence[Any]], Iterator[Any]]
    outline: Callable[[Any], Any]
    crowds: Callable[[Sample], Any]
    """The crowds of a sample, likewise."""
    shares: Callable[[Any, Any], Any]
    """Which share of each of n found entries lies in each of m crowds, ``[n, m]``; of one image."""
    pairs: Callable[[Sequence[Any], Sequence[Any]], Pairs] | None = None
    """Likewise the pairs of all images that overlap by IOUS[0] or more, where they can be had without all ``overlaps``."""

    def around(self, place: Any) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of the upright box around one."""
        points = self.outline(place)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def box_iou(found: Sequence[Any], truth: Sequence[Any]) -> Iterator[Any]:
    """COCO's IoU of boxes ``[n, 4]`` and ``[m, 4]`` of each image, given as x1, y1, x2, y2."""
    from pycocotools import mask

    (ones, starts), (others, bounds) = _sides(found), _sides(truth)
    for number in range(len(found)):
        start, end, first, last = starts[number], starts[number + 1], bounds[number], bounds[number + 1]
        if start == end or first == last:
            yield np.zeros((end - start, last - first))
        else:
            yield mask.iou(ones[start:end], others[first:last], [0] * (last - first))


def box_shares(found: Any, crowds: Any) -> Any:
    """COCO's overlap of boxes ``[n, 4]`` with crowds ``[m, 4]``: what they have in common, by the area of the box."""
    from pycocotools import mask

    return mask.iou(_sides([found])[0], _sides([crowds])[0], [1] * len(crowds))


def _crowd_boxes(sample: Sample) -> Any:
    sides = np.array([crowd.sides for crowd in sample.crowds], float).reshape(-1, 4)
    sides[:, 2:] += sides[:, :2]
    return sides


def _sides(boxes: Sequence[Any]) -> tuple[Any, list[int]]:
    """Corners as left, top, width and height, of all images, and where each image starts."""
    corners = np.concatenate([np.zeros((0, 4)), *boxes])
    corners[:, 2:] -= corners[:, :2]
    return corners, _bounds(boxes)


def _bounds(parts: Sequence[Any]) -> list[int]:
    return [0, *np.cumsum([len(part) for part in parts], dtype=int).tolist()]


def box_pairs(found: Sequence[Any], truth: Sequence[Any]) -> Pairs:
    """Pairs of boxes with COCO's IoU.

    What two boxes have in common by half is at least half as wide as each, so that the true one starts at most its own half, and
    that is at most the width of the other, to the left, or half of that to the right; and likewise downwards.
    """
    (ones, starts), (others, bounds) = _sides(found), _sides(truth)
    kept: list[Pairs] = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    if len(ones) and len(others):
        # All images beside each other, so far apart that none reaches into the next.
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


def _iou(ones: Any, others: Any) -> Any:
    """Of boxes ``[n, 4]`` and as many others, left, top, width and height, as COCO rounds it."""
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
    """All objects of a split, one image after the other: those ``[found]``, the ``[true]`` ones, and ``[pairs]`` of both.

    Pairs overlap by IOUS[0] or more; ``found`` and ``true`` say which objects they are of, whatever their classes are.
    """

    images: Any
    """``[found]``."""
    labels: Any
    scores: Any
    true_images: Any
    """``[true]``."""
    true_labels: Any
    found: Any
    """``[pairs]``."""
    true: Any
    iou: Any
    inside: Any
    """``[found]``: the largest share of each that lies in a crowd of its class; 0 where there is none."""

    def ignored(self, given: Any, number: int = 0) -> Any:
        """``[found]``: which are neither right nor wrong at a threshold, as COCO's evaluator has it: of no true object, and in a
        crowd. ``given`` is `assigned` at that threshold, whose ``number`` in IOUS this is.
        """
        return (given < 0) & (self.inside >= IOUS[number])


def objects(samples: Sequence[Sample], found: Sequence[Any], places: Places = BOXES) -> Objects:
    """Of ``samples`` and of what was found in them, which stands in the same order."""
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


def inside(places: Places, sample: Sample, predicted: Any) -> Any:
    """See Objects.inside."""
    if not len(sample.crowds) or not len(predicted.scores):
        return np.zeros(len(predicted.scores))
    same = np.asarray(predicted.class_ids)[:, None] == np.asarray(sample.crowd_ids)[None]
    return np.where(same, places.shares(places.found(predicted), places.crowds(sample)), 0.0).max(axis=1)


def _pairs(founds: Sequence[Any], truths: Sequence[Any], places: Places) -> Pairs:
    """From all overlaps."""
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


def assigned(of: Objects) -> Any:
    """Which pair each object that was found is right by, or -1, by threshold of IOUS: ``[thresholds, found]``.

    As COCO's evaluator does it: of one class in one image those with higher scores choose first, among equal scores the first
    of them; each takes the object with the highest IoU that none before it took; of equal ones the last.
    """
    rank: Any = np.empty(len(of.scores), int)
    rank[np.argsort(-of.scores, kind="stable")] = np.arange(len(of.scores))
    same = np.flatnonzero(of.labels[of.found] == of.true_labels[of.true])
    # By who chooses, and of each what it likes best. What is chosen likes whoever chooses first.
    order = same[np.lexsort((-of.true[same], -of.iou[same], rank[of.found[same]]))]
    given = np.full((len(IOUS), len(of.scores)), -1)
    for number, threshold in enumerate(IOUS):
        kept = order[of.iou[order] >= threshold]
        pairs = kept[_stable(of.found[kept], of.true[kept], np.arange(len(kept)))]
        given[number, of.found[pairs]] = pairs
    return given


def nearest(of: Objects, chosen: Any) -> tuple[Any, Any]:
    """Pairs of a true object and one of the ``chosen`` ``[found]``, by descending IoU, each at most once, of whatever classes.

    Returns:
        Their indices: those of the true ones and those of the others.
    """
    kept = np.flatnonzero(chosen[of.found])
    kept = kept[np.lexsort((of.true[kept], -of.iou[kept], of.found[kept]))]
    ranks: Any = np.empty(len(kept), int)
    ranks[np.lexsort((of.found[kept], of.true[kept], -of.iou[kept]))] = np.arange(len(kept))
    pairs = kept[_stable(of.found[kept], of.true[kept], ranks)]
    return of.true[pairs], of.found[pairs]


def _stable(found: Any, true: Any, ranks: Any) -> Any:
    """Places of pairs, of which each object is in one at most, and no two objects like each other better than what they got.

    All of ``found`` ask at once for what they like best, each true object takes who asks with the lowest rank, and the others,
    and whoever had it before, ask for the next (Gale and Shapley 1962, doi:10.2307/2312726). Where all likings follow from one
    order of the pairs there is but one such outcome: that of going through them one after the other.

    Args:
        found: ``[pairs]``; the pairs of one object stand together, what it likes best first.
        true: likewise.
        ranks: how well the true object likes the pair, a permutation.
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
    return place_of[best[best < len(found)]]
