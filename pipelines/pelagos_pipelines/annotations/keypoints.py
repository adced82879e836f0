"""Whether rows of a label file that could be outlines are a box with key points: data.yaml should say so, and often does not.

The children that read rows (yolo_document) look at each; the format yolo judges by all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]

ROUNDING = 0.01
_COLUMNS = 5
_FEW_COLUMNS = 9
"""Up to so many, of outlines with 4 corners, the second corner may lie as far from the others as these lie apart."""
_MARGIN = 0.25
"""Of the extent of the other points: how far from them the second point of an outline may lie."""
_MOST = 0.8
"""Of the rows: some key points lie out of their box, where a person dragged it."""
_HALF = 0.5
_TELLING = 3
"""Rows; fewer may lie so by chance."""


@dataclass
class Likeness:
    """How many rows are like a box with key points.

    ``fitting``: the first four numbers are a box in the image, and the others points in that box. ``visible``: these have a third
    number each, 0, 1 or 2. ``apart``: the second pair of numbers lies too far from the others to be a corner of their outline.
    """

    fitting: int = 0
    visible: int = 0
    apart: int = 0

    def __add__(self, other: Likeness) -> Likeness:
        """Of both."""
        return Likeness(self.fitting + other.fitting, self.visible + other.visible, self.apart + other.apart)

    def is_certain(self, rows: int, columns: int) -> bool:
        """Whether they are no outlines; all rows have as many ``columns``."""
        if self.visible >= _MOST * rows:
            return True
        return rows >= _TELLING and columns >= _FEW_COLUMNS and self.apart >= _HALF * rows

    def is_possible(self, rows: int) -> bool:
        """Whether they may be none."""
        return rows >= _TELLING and self.fitting >= _MOST * rows


def shapes(columns: int) -> list[str]:
    """The values of kpt_shape with which rows have so many columns, or one more: of how sure the box is."""
    numbers = columns - _COLUMNS
    found = [f"[{(numbers - more) // per}, {per}]" for more in (0, 1) for per in (3, 2) if (numbers - more) % per == 0]
    return found[:2]


def likeness(row: Sequence[float]) -> Likeness:
    """That of one row, without its class. The outline of a small object can lie in such a "box", but goes on near its points."""
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
    """The points, when each has two numbers, and when it has three: whether it is to be seen, or how sure that is.

    With those of three, whether all say the former. After them may stand how sure the box is.
    """
    yield _points(numbers[::2], numbers[1::2]), False
    count, more = divmod(len(numbers), 3)
    thirds = numbers[2 : 3 * count : 3]
    if count and more < 2 and all(0 <= third <= 1 or third == 2 for third in thirds):
        visible = not more and all(third in {0, 1, 2} for third in thirds)
        yield _points(numbers[: 3 * count : 3], numbers[1 : 3 * count : 3]), visible


def _points(xs: Sequence[float], ys: Sequence[float]) -> list[Point]:
    """Those in the image: others stand at 0, 0."""
    return [point for point in zip(xs, ys, strict=True) if point != (0, 0)]


def _lie_in(points: Sequence[Point], spans: Sequence[Point]) -> bool:
    return all(
        first - ROUNDING <= one <= last + ROUNDING
        for point in points
        for one, (first, last) in zip(point, spans, strict=True)
    )


def _lies_apart(corner: Point, others: Sequence[Point], numbers: int) -> bool:
    """Whether ``corner`` is none of the outline that ``others`` are the corners of."""
    ends = [(min(along), max(along)) for along in zip(*others, strict=True)]
    extent = max(last - first for first, last in ends)
    margin = ROUNDING + extent * (1 if numbers < _FEW_COLUMNS else _MARGIN)
    return any(not first - margin <= one <= last + margin for one, (first, last) in zip(corner, ends, strict=True))
