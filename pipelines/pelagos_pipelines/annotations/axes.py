"""Rectangles and ellipses given by four points, and closed polygons, as in BIIGLE and iFDO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pelagos_pipelines.annotations import shapes
from pelagos_pipelines.annotations.shapes import Kind, Shape

_PAIRS = ((0, 2, 1, 3), (0, 1, 2, 3))
"""Indices of the ends of the first and the second axis among four points: in order around, or one axis after the other."""
_SLACK = 0.02
"""Tolerance, relative to the larger axis, for the distance of the axes' middles and for their right angle."""


def rectangle(label: str, corners: Sequence[float], **rest: Any) -> Shape:
    """The rectangle with these corners, or a polygon if they do not form one. Raises ValueError unless there are four points.

    A rectangle parallel to the image's edges has no angle, whichever corner comes first.
    """
    if len(corners) != 8:
        raise ValueError(f"a rectangle has {len(corners)} numbers, not x and y of four corners")
    require_pixels(Kind.POLYGON, corners, (4,))
    found = shapes.turned(corners, label, **rest)
    if found is None:
        return shapes.polygon(label, corners, **rest)
    if found.angle % 90 == 0:
        return shapes.rectangle(label, *_around(found), **rest)
    return found


def polygon(label: str, points: Sequence[float], **rest: Any) -> Shape:
    """The polygon of these points; a last point that repeats the first is dropped. Raises ValueError for fewer than three."""
    ring = points[:-2] if len(points) > 2 and list(points[:2]) == list(points[-2:]) else points
    return shapes.polygon(label, ring, **rest)


def _around(shape: Shape) -> shapes.Sides:
    corners = shapes.corners_of(shape)
    xs, ys = corners[::2], corners[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def ellipse(label: str, ends: Sequence[float], **rest: Any) -> Shape:
    """The ellipse whose axes end at these four points. Raises ValueError if they are not the ends of an ellipse's axes."""
    if len(ends) != 8:
        raise ValueError(f"an ellipse has {len(ends)} numbers, not x and y of the four ends of its axes")
    require_pixels(Kind.POLYGON, ends, (4,))
    points = list(zip(ends[::2], ends[1::2], strict=True))
    for order in _PAIRS:
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = (points[one] for one in order)
        first, second = math.hypot(bx - ax, by - ay), math.hypot(dx - cx, dy - cy)
        slack = max(1.0, _SLACK * max(first, second))
        apart = math.hypot(ax + bx - cx - dx, ay + by - cy - dy) / 2
        aslant = abs((bx - ax) * (dx - cx) + (by - ay) * (dy - cy))
        if apart <= slack and aslant <= max(1.0, slack * min(first, second)):
            angle = math.degrees(math.atan2(by - ay, bx - ax)) % 180 if first else 0.0
            middle = (ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4
            halves = (first / 2, second / 2) if angle != 90 else (second / 2, first / 2)
            return Shape(label, Kind.ELLIPSE, (*middle, *halves, angle if angle != 90 else 0.0), **rest)
    raise ValueError("an ellipse has four points that are not the ends of two axes")


def ends_of(shape: Shape) -> tuple[float, ...]:
    """x and y of the ends of an ellipse's axes, in order around it, from the end of the first axis."""
    x, y, across, down, angle = shape.coordinates
    turned = math.radians(angle)
    cosine, sine = (1.0, 0.0) if angle % 360 == 0 else (math.cos(turned), math.sin(turned))
    first, second = (across * cosine, across * sine), (-down * sine, down * cosine)
    found = ((x - first[0], y - first[1]), (x - second[0], y - second[1]))
    opposite = ((x + first[0], y + first[1]), (x + second[0], y + second[1]))
    return tuple(one for point in (*found, *opposite) for one in point)


def require_pixels(kind: Kind, numbers: Sequence[float], rings: tuple[int, ...] = ()) -> None:
    """Raise ValueError for invalid coordinates before any computation with them."""
    if fault := shapes.problem(kind, numbers, rings):
        raise ValueError(fault)
