"""Turned boxes of a dataset version, and the exact overlaps of turned boxes.

Called by the strategy of oriented detection. Boxes are ``[n, 5]``: centre x, y, width, height, and the angle in degrees,
clockwise as seen on the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract import suppression
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.serving.tasks.oriented_detection import corners

_AT_ONCE = 100_000
"""Number of pairs of boxes that are processed at once, which bounds memory."""


def of_shapes(shapes: Sequence[Shape]) -> npt.NDArray[np.float64]:
    """The boxes ``[n, 5]`` of rectangles."""
    sides = np.array([shape.coordinates for shape in shapes], float).reshape(-1, 5)
    sides[:, :2] += sides[:, 2:4] / 2
    return sides


def iou(boxes: Sequence[Any], others: Sequence[Any]) -> Iterator[Any]:
    """For each image the exact IoU ``[n, m]``; 0 where neither box has an area."""
    return (_iou(*both) for both in zip(boxes, others, strict=True))


def shares(boxes: npt.NDArray[np.float32], crowds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The intersection divided by the box's area, ``[n, m]`` for n boxes and m crowds; 0 for a box without an area."""
    return _by_area(boxes, crowds, lambda shared, area, _: shared / np.maximum(area, np.finfo(float).tiny))


def _iou(boxes: npt.NDArray[Any], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    def by_both(
        shared: npt.NDArray[np.float64], area: npt.NDArray[np.float64], other_area: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        return shared / np.maximum(area + other_area - shared, np.finfo(float).tiny)

    return _by_area(boxes, others, by_both)


def _by_area(
    boxes: npt.NDArray[Any], others: npt.NDArray[np.float64], divided: Callable[[Any, Any, Any], Any]
) -> npt.NDArray[np.float64]:
    """The result of ``divided`` for the intersection and both areas, ``[n, m]``."""
    found = np.zeros((len(boxes), len(others)))
    one, other = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    reach, further = (np.hypot(each[:, 2], each[:, 3]) / 2 for each in (one, other))
    apart = np.hypot(one[:, None, 0] - other[None, :, 0], one[:, None, 1] - other[None, :, 1])
    points, others_points = corners(one), corners(other)
    rows, columns = np.nonzero(apart < reach[:, None] + further[None])
    for start in range(0, len(rows), _AT_ONCE):
        row, column = rows[start : start + _AT_ONCE], columns[start : start + _AT_ONCE]
        shared = suppression.common_area(points[row], others_points[column])
        areas = (each[place, 2] * each[place, 3] for each, place in ((one, row), (other, column)))
        found[row, column] = divided(shared, *areas)
    return found
