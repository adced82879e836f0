"""How much turned boxes have in common, exactly; and those that a dataset version has.

Called by the strategy of oriented detection. Boxes are ``[n, 5]``: centre x, y, width, height, and the angle in degrees,
clockwise as one sees the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pelagos_contract import suppression
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.serving.tasks.oriented_detection import corners

_AT_ONCE = 100_000
"""Pairs of boxes."""


def of_shapes(shapes: Sequence[Shape]) -> Any:
    """The boxes of rectangles."""
    sides = np.array([shape.coordinates for shape in shapes], float).reshape(-1, 5)
    sides[:, :2] += sides[:, 2:4] / 2
    return sides


def iou(boxes: Sequence[Any], others: Sequence[Any]) -> Iterator[Any]:
    """Area in common by the area of both together, ``[n, m]`` of each image, exactly; 0 where neither has an area."""
    return (_iou(*both) for both in zip(boxes, others, strict=True))


def _iou(boxes: Any, others: Any) -> Any:
    found = np.zeros((len(boxes), len(others)))
    one, other = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    reach, further = (np.hypot(each[:, 2], each[:, 3]) / 2 for each in (one, other))
    apart = np.hypot(one[:, None, 0] - other[None, :, 0], one[:, None, 1] - other[None, :, 1])
    points, others_points = corners(one), corners(other)
    rows, columns = np.nonzero(apart < reach[:, None] + further[None])
    for start in range(0, len(rows), _AT_ONCE):
        row, column = rows[start : start + _AT_ONCE], columns[start : start + _AT_ONCE]
        shared = suppression.common_area(points[row], others_points[column])
        areas = one[row, 2] * one[row, 3] + other[column, 2] * other[column, 3]
        found[row, column] = shared / np.maximum(areas - shared, np.finfo(float).tiny)
    return found
