"""What people made of a model's suggestions: how good the model is where it is used.

A tool that was given predictions hands them back beside what people made of them. Of the two, those that cover each other best
are taken for the same object, as detections and ground truth are in evaluation; see ``compare``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pelagos_contract.dataset import Corrections
from pelagos_pipelines.annotations.shapes import Kind, Shape, Sides

SAME = 0.5
"""Intersection over union from which two shapes are of one object: the usual one of detection (Pascal VOC)."""
UNMOVED = 1.0
"""Pixels by which each side of a box may differ and be where it was: tools round."""
MAX_MODELS = 100


@dataclass
class Corrected:
    """Numbers by the model that made the suggestions."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, model: str, predicted: Sequence[Shape], kept: Sequence[Shape]) -> None:
        """Count an image."""
        if model in self.counts or len(self.counts) < MAX_MODELS:
            self.counts.setdefault(model, Counter()).update({"images": 1, **compare(predicted, kept)})

    def __iter__(self) -> Iterator[Corrections]:
        """In the order of their names."""
        for model, counts in sorted(self.counts.items()):
            yield Corrections(model=model, **{name: counts[name] for name in _COUNTED})


_COUNTED = ("images", "predicted", "accepted", "moved", "relabelled", "added", "removed")


def compare(predicted: Sequence[Shape], kept: Sequence[Shape]) -> Mapping[str, int]:
    """How many suggestions there were, and what became of them.

    ``accepted`` were left as they were, ``moved`` have the same class and other edges, ``relabelled`` another class; ``removed``
    have no counterpart, and ``added`` are no suggestion's. Pairs are made by falling intersection over union of their boxes,
    from SAME on; whole-image tags are the same by their class.
    """
    found: Counter[str] = Counter(predicted=len(predicted))
    pairs = sorted(
        (
            (-overlap, one.label != other.label, first, second)
            for first, one in enumerate(predicted)
            for second, other in enumerate(kept)
            if (overlap := _overlap(one, other)) >= SAME
        ),
    )
    left, right = set(range(len(predicted))), set(range(len(kept)))
    for _, is_other, first, second in pairs:
        if first in left and second in right:
            left.remove(first)
            right.remove(second)
            unmoved = _is_unmoved(predicted[first], kept[second])
            found["relabelled" if is_other else "accepted" if unmoved else "moved"] += 1
    found["removed"], found["added"] = len(left), len(right)
    return found


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
