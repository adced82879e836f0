"""Detects whether rows of YOLO labels are boxes with key points instead of outlines, as data.yaml often does not say so.

The children that read rows (yolo_document) classify each; the format yolo decides by all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]

ROUNDING = 0.01
_COLUMNS = 5
_FEW_COLUMNS = 9
"""Up to this number of columns, for outlines with 4 corners, the second corner may be as far from the others as these are
apart."""
_MARGIN = 0.25
"""Largest distance of an outline's second point from the other points, relative to their extent."""
_MOST = 0.8
"""Share of rows that must fit; some key points are outside of boxes that a person moved."""
_HALF = 0.5
_TELLING = 3
"""Least number of rows, as fewer could fit by chance."""


@dataclass
class Likeness:
    """Counts of rows that look like a box with key points.

    ``fitting``: the first four numbers are a box in the image, and the others points in that box. ``visible``: the points have a
    third number, 0, 1 or 2. ``apart``: the second pair of numbers is too far from the others to be a corner of their outline.
    """

    fitting: int = 0
    visible: int = 0
    apart: int = 0

    def __add__(self, other: Likeness) -> Likeness:
        """The sums of both."""
        return Likeness(self.fitting + other.fitting, self.visible + other.visible, self.apart + other.apart)

    def is_certain(self, rows: int, columns: int) -> bool:
        """Whether the rows cannot be outlines; all of them have ``columns`` columns."""
        if self.visible >= _MOST * rows:
            return True
        return rows >= _TELLING and columns >= _FEW_COLUMNS and self.apart >= _HALF * rows

    def is_possible(self, rows: int) -> bool:
        """Whether the rows may not be outlines."""
        return rows >= _TELLING and self.fitting >= _MOST * rows


def shapes(columns: int) -> list[str]:
    """The values of kpt_shape that give this number of columns, with or without a column for the box's confidence."""
    numbers = columns - _COLUMNS
    found = [f"[{(numbers - more) // per}, {per}]" for more in (0, 1) for per in (3, 2) if (numbers - more) % per == 0]
    return found[:2]


def likeness(row: Sequence[float]) -> Likeness:
    """The likeness of one row without its class. A small object's outline can be within such a "box" too, but stays coherent."""
    x, y, width, height = row[:4]
    spans = ((x - width / 2, x + width / 2), (y - height / 2, y + height / 2))
    if not all(first >= -ROUNDING and last <= 1 + ROUNDING for first, last in spans):
        return Likeness()
    fitting = [(points, visible) for points, visible in _readings(row[4:]) if _lie_in(points, spans)]
    return Likeness(
        bool(fitting),
        any(visible for _, visible in fitting),
        any(_lies_apart((width, height), [(x, y), *points], len(row)) for points, _ in fitting),
    )


def _readings(numbers: Sequence[float]) -> Iterator[tuple[list[Point], bool]]:
    """The points read with two numbers each, and with three, where the third is visibility or confidence.

    For three, also whether all third numbers are visibilities. The box's confidence may follow the points.
    """
    yield _points(numbers[::2], numbers[1::2]), False
    count, more = divmod(len(numbers), 3)
    thirds = numbers[2 : 3 * count : 3]
    if count and more < 2 and all(0 <= third <= 1 or third == 2 for third in thirds):
        visible = not more and all(third in {0, 1, 2} for third in thirds)
        yield _points(numbers[: 3 * count : 3], numbers[1 : 3 * count : 3]), visible


def _points(xs: Sequence[float], ys: Sequence[float]) -> list[Point]:
    """The points in the image, without those at 0, 0, which mark missing ones."""
    return [point for point in zip(xs, ys, strict=True) if point != (0, 0)]


def _lie_in(points: Sequence[Point], spans: Sequence[Point]) -> bool:
    return all(
        first - ROUNDING <= one <= last + ROUNDING
        for point in points
        for one, (first, last) in zip(point, spans, strict=True)
    )


def _lies_apart(corner: Point, others: Sequence[Point], numbers: int) -> bool:
    """Whether ``corner`` cannot be a corner of the outline through ``others``."""
    ends = [(min(along), max(along)) for along in zip(*others, strict=True)]
    extent = max(last - first for first, last in ends)
    margin = ROUNDING + extent * (1 if numbers < _FEW_COLUMNS else _MARGIN)
    return any(not first - margin <= one <= last + margin for one, (first, last) in zip(corner, ends, strict=True))
