"""Images that look alike and say other things: one of the two labels is likely wrong. Identical ones are contradictions.py's.

Cleaning warns of other classes by name; here they are found once more for their pictures, by their places among the images. So
are boxes of two such images that lie in the same place and are of other classes, which the classes of an image do not tell.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.preparation.judging.tables import sides_of

MOST = 24
"""Pairs of which there are pictures."""
CELLS, AT_LEAST = 2_000_000, 2_000
"""Overlaps of boxes that are computed at most, and what a pair of images counts for if it has fewer: of frames that all look
alike there may be millions of pairs, and the first thousand tell enough."""
OVERLAP = 0.5
"""Intersection over union from which on boxes of two images lie in the same place."""
_WAYS = tuple(itertools.product((False, True), (1, -1), (1, -1)))
"""To lay an image, as in alike.py: whether it is transposed, and whether rows and columns are mirrored."""
_NAMED = 3
"""Classes of an image that are told."""
_Part = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pair:
    """Two images, as their places in the list, with the classes of each in words.

    ``parts`` are the two boxes that differ, as shares of their images; None: the classes of the images do.
    """

    first: int
    second: int
    told: tuple[str, str]
    parts: tuple[_Part, _Part] | None = None


def pairs(images: Sequence[ImageRecord], alike: Mapping[str, Sequence[str]]) -> list[Pair]:
    """Each image beside the first of those that it looks like and that says something else of what it shows. Sorted by path.

    ``alike`` has by path the earlier images that one looks like; what is not among the images is left out.
    """
    places = {image.path: place for place, image in enumerate(images)}
    found, left = [], CELLS
    for path in sorted(alike.keys() & places.keys()):
        one = images[places[path]]
        for other in (places[other] for other in alike[path] if other in places):
            boxes = None
            if left > 0 and one.label is None:
                left -= max(AT_LEAST, len(_WAYS) * _boxes(one) * _boxes(images[other]))
                boxes = _relabelled(one, images[other])
            if boxes is not None or images[other].labels != one.labels:
                found.append(_pair(places[path], other, images, boxes))
                break
    return found


def _boxes(image: ImageRecord) -> int:
    return len(image.boxes) + len(image.shapes)


def _pair(first: int, second: int, images: Sequence[ImageRecord], boxes: _Relabelled | None) -> Pair:
    """The pair in words: of the boxes that differ, or of all that both show."""
    if boxes is None:
        return Pair(first, second, (_told(images[first]), _told(images[second])))
    return Pair(first, second, boxes.labels, boxes.parts)


@dataclass(frozen=True)
class _Relabelled:
    labels: tuple[str, str]
    parts: tuple[_Part, _Part]


def _relabelled(one: ImageRecord, other: ImageRecord) -> _Relabelled | None:
    """The two boxes in the same place, of other classes, that overlap most; images may be mirrored or turned against each other.

    They are laid in the way in which most boxes lie in the same place.
    """
    (labels, boxes), (other_labels, others) = _shares(one), _shares(other)
    if not len(boxes) or not len(others):
        return None
    overlaps = [_overlaps(_laid(boxes, way), others) for way in _WAYS]
    best = max(overlaps, key=lambda table: float(np.where(table >= OVERLAP, table, 0).max(axis=1).sum()))
    # The nearest box of the other image says what is there; one of the same class beside it takes nothing from that.
    nearest = best.argmax(axis=1)
    differing = [
        row
        for row, column in enumerate(nearest.tolist())
        if best[row, column] >= OVERLAP and best[:, column].argmax() == row and labels[row] != other_labels[column]
    ]
    if not differing:
        return None
    row = max(differing, key=lambda place: (round(float(best[place, nearest[place]]), 6), -place))
    column = int(nearest[row])
    return _Relabelled((labels[row], other_labels[column]), (_part(boxes[row]), _part(others[column])))


def _shares(image: ImageRecord) -> tuple[list[str], Any]:
    """Classes, and [boxes, 4] left, top, width and height as shares of the image."""
    sides = list(sides_of(image))
    scale = np.array([image.width or 1, image.height or 1] * 2, float)
    return [label for label, *_ in sides], np.array([box for _, *box in sides], float).reshape(-1, 4) / scale


def _laid(boxes: Any, way: tuple[bool, int, int]) -> Any:
    """Boxes of an image that is transposed, and then mirrored upside down and left to right where the way has -1."""
    transposed, rows, columns = way
    left, top, width, height = (boxes[:, side] for side in ((1, 0, 3, 2) if transposed else (0, 1, 2, 3)))
    if rows < 0:
        top = 1 - top - height
    if columns < 0:
        left = 1 - left - width
    return np.stack((left, top, width, height), axis=1)


def _overlaps(boxes: Any, others: Any) -> Any:
    """Intersection over union [boxes, others]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    both = boxes[:, None, 2:].prod(axis=2) + others[None, :, 2:].prod(axis=2) - shared
    return shared / np.maximum(both, 1e-12)


def _part(box: Any) -> _Part:
    left, top, width, height = (float(side) for side in box)
    return left, top, width, height


def _told(image: ImageRecord) -> str:
    labels = sorted(image.labels)
    rest = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return (", ".join(labels[:_NAMED]) or "nothing") + rest
