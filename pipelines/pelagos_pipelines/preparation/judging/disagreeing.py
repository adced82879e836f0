"""Finds images that look alike but have different labels: one of the two is likely wrong.

Identical images are handled by contradictions.py.

Cleaning warns about different classes by name; here the same images are found by index, for their pictures. Boxes of two such
images in the same place with different classes are found as well, which the sets of classes of the images do not reveal.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.preparation.judging.tables import sides_of

MOST = 24
"""The most pairs that get pictures."""
CELLS, AT_LEAST = 2_000_000, 2_000
"""The most overlaps of boxes that are computed, and the least that a pair of images counts for. Among frames that all look alike
there may be millions of pairs, and the first thousand are enough."""
OVERLAP = 0.5
"""Intersection over union from which on boxes of two images count as in the same place."""
_WAYS = tuple(itertools.product((False, True), (1, -1), (1, -1)))
"""The orientations of an image, as in alike.py: whether it is transposed, and whether rows and columns are mirrored."""
_NAMED = 3
"""How many classes of an image are named."""
_Part = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pair:
    """Two images, by index, with the classes of each in words.

    ``parts`` are the two boxes that differ, in fractions of their images; None if the classes of the images differ.
    """

    first: int
    second: int
    told: tuple[str, str]
    parts: tuple[_Part, _Part] | None = None


def pairs(images: Sequence[ImageRecord], alike: Mapping[str, Sequence[str]]) -> list[Pair]:
    """Each image with the first similar one that has different labels, sorted by path.

    ``alike`` has by path the earlier images that one looks like; paths that are not among the images are ignored.
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
    """The pair with labels in words: those of the boxes that differ, or all of both images."""
    if boxes is None:
        return Pair(first, second, (_told(images[first]), _told(images[second])))
    return Pair(first, second, boxes.labels, boxes.parts)


@dataclass(frozen=True)
class _Relabelled:
    labels: tuple[str, str]
    parts: tuple[_Part, _Part]


def _relabelled(one: ImageRecord, other: ImageRecord) -> _Relabelled | None:
    """The two boxes in the same place, with different classes, that overlap most; None if there are none.

    One image may be mirrored or turned. It is compared in the orientation in which boxes coincide best.
    """
    (labels, boxes), (other_labels, others) = _shares(one), _shares(other)
    if not len(boxes) or not len(others):
        return None
    overlaps = [_overlaps(_laid(boxes, way), others) for way in _WAYS]
    best = max(overlaps, key=lambda table: float(np.where(table >= OVERLAP, table, 0).max(axis=1).sum()))
    # Only the best overlapping box of the other image counts, even if a box of the same class is beside it.
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
    """Classes, and boxes [boxes, 4] as left, top, width and height in fractions of the image."""
    sides = list(sides_of(image))
    scale = np.array([image.width or 1, image.height or 1] * 2, float)
    return [label for label, *_ in sides], np.array([box for _, *box in sides], float).reshape(-1, 4) / scale


def _laid(boxes: npt.NDArray[np.float64], way: tuple[bool, int, int]) -> npt.NDArray[np.float64]:
    """Boxes after the image is transposed, and then flipped vertically and horizontally where the way has -1."""
    transposed, rows, columns = way
    left, top, width, height = (boxes[:, side] for side in ((1, 0, 3, 2) if transposed else (0, 1, 2, 3)))
    if rows < 0:
        top = 1 - top - height
    if columns < 0:
        left = 1 - left - width
    return np.stack((left, top, width, height), axis=1)


def _overlaps(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union [boxes, others]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    both = boxes[:, None, 2:].prod(axis=2) + others[None, :, 2:].prod(axis=2) - shared
    found: npt.NDArray[np.float64] = shared / np.maximum(both, 1e-12)
    return found


def _part(box: npt.NDArray[np.float64]) -> _Part:
    left, top, width, height = (float(side) for side in box)
    return left, top, width, height


def _told(image: ImageRecord) -> str:
    labels = sorted(image.labels)
    rest = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return (", ".join(labels[:_NAMED]) or "nothing") + rest
