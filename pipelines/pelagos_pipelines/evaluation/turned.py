"""How much turned boxes have in common, exactly; and those that a dataset version has.

Called by the strategy of oriented detection. Boxes are ``[n, 5]``: centre x, y, width, height, and the angle in degrees,
clockwise as one sees the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.serving.tasks.oriented_detection import corners

SLACK = 1e-9
"""By how much, as a share of both boxes' size, an edge may lie outside of a box and be on its edge: more than rounding makes."""
_AT_ONCE = 100_000
"""Pairs of boxes."""


def of_shapes(shapes: Sequence[Shape]) -> Any:
    """The boxes of rectangles."""
    sides = np.array([shape.coordinates for shape in shapes], float).reshape(-1, 5)
    sides[:, :2] += sides[:, 2:4] / 2
    return sides


def iou(boxes: Any, others: Any) -> Any:
    """Area in common by the area of both together, ``[n, m]``; 0 where neither has an area."""
    found = np.zeros((len(boxes), len(others)))
    one, other = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    reach, further = (np.hypot(each[:, 2], each[:, 3]) / 2 for each in (one, other))
    apart = np.hypot(one[:, None, 0] - other[None, :, 0], one[:, None, 1] - other[None, :, 1])
    rows, columns = np.nonzero(apart < reach[:, None] + further[None])
    for start in range(0, len(rows), _AT_ONCE):
        row, column = rows[start : start + _AT_ONCE], columns[start : start + _AT_ONCE]
        shared = common(one[row], other[column])
        areas = one[row, 2] * one[row, 3] + other[column, 2] * other[column, 3]
        found[row, column] = shared / np.maximum(areas - shared, np.finfo(float).tiny)
    return found


def common(boxes: Any, others: Any) -> Any:
    """The area ``[n]`` that the boxes of each pair have in common.

    The shoelace formula, by those parts of either box's edges that lie in the other box. Edges that lie on each other are taken
    once where both boxes are on the same side of them, else not at all. Source: Cyrus and Beck, Generalized two- and
    three-dimensional clipping, Computers and Graphics 3 (1978).
    """
    middle = boxes[:, :2].copy()
    size = np.maximum(boxes[:, 2:4].max(axis=1), others[:, 2:4].max(axis=1))
    slack = SLACK * size
    one, other = boxes.copy(), others.copy()
    one[:, :2] -= middle
    other[:, :2] -= middle
    first, second = corners(one), corners(other)
    twice = _swept(first, second, -slack, slack) + _swept(second, first, slack, slack)
    return np.clip(twice / 2, 0, np.minimum(boxes[:, 2] * boxes[:, 3], others[:, 2] * others[:, 3]))


def _swept(edges: Any, within: Any, along_side: Any, against: Any) -> Any:
    """Twice the area that the edges of boxes sweep as seen from the origin, as far as they lie in others.

    In by so much, or more: by ``along_side`` where an edge goes the way of a side of the other, else by ``against``.
    """
    start, along = edges, np.roll(edges, -1, axis=1) - edges
    side = np.roll(within, -1, axis=1) - within
    length = np.maximum(np.hypot(side[..., 0], side[..., 1]), np.finfo(float).tiny)
    inward = np.stack((-side[..., 1], side[..., 0]), axis=-1) / length[..., None]
    # Distances from each side, and by how much they change along the edge: [pair, edge, side].
    same_way = (along[:, :, None] * side[:, None]).sum(axis=-1) > 0
    least = np.where(same_way, along_side[:, None, None], against[:, None, None])
    at = ((start[:, :, None] - within[:, None]) * inward[:, None]).sum(axis=-1) - least
    change = (along[:, :, None] * inward[:, None]).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -at / change
    enters = np.where(change > 0, crossing, np.where((change == 0) & (at < 0), np.inf, -np.inf)).max(axis=2)
    leaves = np.where(change < 0, crossing, np.inf).min(axis=2)
    part = np.clip(np.minimum(leaves, 1) - np.maximum(enters, 0), 0, None)
    return ((start[..., 0] * along[..., 1] - start[..., 1] * along[..., 0]) * part).sum(axis=1)
