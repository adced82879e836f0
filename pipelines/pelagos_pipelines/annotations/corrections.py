"""Compares people's corrections with a model's suggestions, which shows how good the model is in practice.

A tool that received predictions returns them beside the corrected annotations. Shapes of both that overlap best are matched as
the same object, like detections and ground truth in an evaluation; see ``compare``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pelagos_contract.dataset import Corrections
from pelagos_pipelines.annotations.shapes import Kind, Shape, Sides

SAME = 0.5
"""IoU from which two shapes are the same object, the usual threshold of detection (Pascal VOC)."""
UNMOVED = 1.0
"""Tolerance in pixels for each side of a box that counts as not moved, since tools round."""
MAX_MODELS = 100


@dataclass
class Corrected:
    """Counts by the model that made the suggestions."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, model: str, predicted: Sequence[Shape], kept: Sequence[Shape]) -> None:
        """Count the outcome of an image."""
        if model in self.counts or len(self.counts) < MAX_MODELS:
            self.counts.setdefault(model, Counter()).update({"images": 1, **compare(predicted, kept)})

    def __iter__(self) -> Iterator[Corrections]:
        """The counts, sorted by the models' names."""
        for model, counts in sorted(self.counts.items()):
            yield Corrections(model=model, **{name: counts[name] for name in _COUNTED})


_COUNTED = ("images", "predicted", "accepted", "moved", "relabelled", "added", "removed")


def compare(predicted: Sequence[Shape], kept: Sequence[Shape]) -> Mapping[str, int]:
    """The number of suggestions, and how people corrected them.

    ``accepted`` were left as they were, ``moved`` have the same class and other edges, ``relabelled`` another class; ``removed``
    have no counterpart, and ``added`` are no suggestion's. Pairs are made by falling intersection over union of their boxes,
    from SAME on; whole-image tags are the same by their class.
    """
    found: Counter[str] = Counter(predicted=len(predicted))
    pairs = matched(predicted, kept)
    for first, second in pairs:
        one, other = predicted[first], kept[second]
        same = one.label == other.label
        found["relabelled" if not same else "accepted" if _is_unmoved(one, other) else "moved"] += 1
    found["removed"], found["added"] = len(predicted) - len(pairs), len(kept) - len(pairs)
    return found


def matched(ones: Sequence[Shape], others: Sequence[Shape]) -> Sequence[tuple[int, int]]:
    """Index pairs of shapes that are the same object, each in at most one pair: best overlap first, same class before others."""
    pairs = sorted(
        (
            (-overlap, one.label != others[second].label, first, second)
            for first, (one, row) in enumerate(zip(ones, _overlaps(ones, others), strict=True))
            for second, overlap in row
        ),
    )
    left, right = set(range(len(ones))), set(range(len(others)))
    found = []
    for _, _, first, second in pairs:
        if first in left and second in right:
            left.remove(first)
            right.remove(second)
            found.append((first, second))
    return found


def _overlaps(ones: Sequence[Shape], others: Sequence[Shape]) -> Iterator[Iterator[tuple[int, float]]]:
    """For each of ``ones``, the indices of ``others`` that may be the same object, with their IoU."""
    # Row by row, and only near boxes: plankton images have thousands of boxes and therefore millions of pairs.
    edges = np.array([_edges(found) if (found := _box(each)) else (np.nan,) * 4 for each in others]).reshape(-1, 4)
    boxless = [place for place, each in enumerate(others) if _box(each) is None]
    for one in ones:
        box = _box(one)
        if box is None:
            near: Sequence[int] = range(len(others))
        else:
            left, top, right, bottom = _edges(box)
            touching = (edges[:, 0] < right) & (edges[:, 2] > left) & (edges[:, 1] < bottom) & (edges[:, 3] > top)
            near = [*map(int, np.flatnonzero(touching)), *boxless]
        yield ((place, overlap) for place in near if (overlap := _overlap(one, others[place])) >= SAME)


def _box(shape: Shape) -> Sides | None:
    return None if shape.kind is Kind.TAG else shape.sides


def _overlap(one: Shape, other: Shape) -> float:
    if Kind.TAG in {one.kind, other.kind}:
        return float(one.kind is other.kind and one.label == other.label)
    some, others = one.sides, other.sides
    if some is None or others is None:
        return float(one.kind is other.kind and one.coordinates == other.coordinates)
    width = min(some[0] + some[2], others[0] + others[2]) - max(some[0], others[0])
    height = min(some[1] + some[3], others[1] + others[3]) - max(some[1], others[1])
    shared = max(width, 0.0) * max(height, 0.0)
    whole = some[2] * some[3] + others[2] * others[3] - shared
    return shared / whole if whole > 0 else 0.0


def _is_unmoved(one: Shape, other: Shape) -> bool:
    if one.sides is None or other.sides is None:
        return True
    return one.kind is other.kind and max(map(_apart, _edges(one.sides), _edges(other.sides))) <= UNMOVED


def _apart(one: float, other: float) -> float:
    return abs(one - other)


def _edges(sides: Sides) -> Sides:
    left, top, width, height = sides
    return left, top, left + width, top + height
