"""Shapes drawn on an image, in the common form of all tools' annotations.

Coordinates are pixels of the upright original: x to the right, y down, counted at pixel edges from 0, so that an image of width
100 ends at x = 100. Angles are degrees, clockwise as seen on the image. This module is independent of formats and tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

Sides: TypeAlias = tuple[float, float, float, float]
"""Left, top, width and height."""


class Kind(StrEnum):
    """What a shape is, and which ``coordinates`` it has."""

    RECTANGLE = "rectangle"
    """Left, top, width and height before it is turned, and the angle by which it is turned about its centre."""
    POLYGON = "polygon"
    """x and y of the points of its rings, one ring after the other; ``rings`` says how many points each has, less than 0 for a
    hole."""
    MASK = "mask"
    """Left, top, width and height of a part of the image, in whole pixels, and runs of pixels of its rows, one row after
    the other: outside, inside, outside and so on."""
    POINT = "point"
    """x and y."""
    LINE = "line"
    """x and y of two points or more."""
    CIRCLE = "circle"
    """x and y of the centre, and the radius."""
    ELLIPSE = "ellipse"
    """x and y of the centre, the half axes across and down before it is turned, and the angle by which it is turned."""
    KEY_POINTS = "key points"
    """x, y and visibility of each point, as COCO has it: 0 for one that is not marked, 1 for one that is hidden, 2."""
    TAG = "tag"
    """None: a label of the whole image."""


_LENGTHS: Mapping[Kind, int] = {
    Kind.RECTANGLE: 5,
    Kind.POINT: 2,
    Kind.CIRCLE: 3,
    Kind.ELLIPSE: 5,
    Kind.TAG: 0,
}
_LEAST_POINTS = 3
_DEVIATION = 0.1
"""Largest distance in pixels between a circle and the polygon that replaces it."""
_MOST_POINTS = 720
_LARGEST = 2.0**31
"""Bound of coordinates in pixels; no image is that large."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One annotation. ``box`` is the box that a file has beside an outline, ``points`` are names of key points.

    ``attributes`` are additional values of the tool by name. ``annotator`` is the tool's name for the person who drew it.
    ``confidence`` is that of the person or model, from 0 to 1, and ``origin`` the annotation's id in the tool.
    """

    label: str
    kind: Kind
    coordinates: tuple[float, ...] = ()
    rings: tuple[int, ...] = ()
    box: Sides | None = None
    points: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    annotator: str | None = None
    confidence: float | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        if fault := problem(self.kind, self.coordinates, self.rings):
            raise ValueError(fault)

    @property
    def sides(self) -> Sides | None:
        """The bounding box, as stated in the file if it is; None for a shape without an area."""
        if self.box is not None:
            return self.box
        return _AROUND[self.kind](self) if self.kind in _AROUND else None

    @property
    def angle(self) -> float:
        """The angle of a rectangle or ellipse in degrees; 0 for other shapes."""
        return self.coordinates[4] if self.kind in {Kind.RECTANGLE, Kind.ELLIPSE} else 0.0

    @property
    def outlines(self) -> Iterator[tuple[tuple[float, ...], bool]]:
        """The rings of a polygon as alternating x and y, each with whether it is a hole."""
        start = 0
        for count in self.rings:
            yield self.coordinates[start : start + 2 * abs(count)], count < 0
            start += 2 * abs(count)

    def document(self) -> dict[str, Any]:
        """The JSON document, without unset members."""
        found: dict[str, Any] = {
            "class": self.label,
            "kind": self.kind.value,
            "coordinates": list(self.coordinates),
        }
        for name in ("rings", "box", "points", "attributes", "annotator", "confidence", "origin"):
            value = getattr(self, name)
            if value is not None and value != () and value != {}:
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    @classmethod
    def restored(cls, found: Mapping[str, Any], label: str | None = None) -> Shape:
        """Parse a ``document``; ``label`` replaces its class. Raises ValueError or TypeError for anything else."""
        confidence, box = found.get("confidence"), found.get("box")
        return cls(
            label=str(found["class"]) if label is None else label,
            kind=Kind(found["kind"]),
            coordinates=_numbers(found["coordinates"]),
            rings=tuple(_whole(count) for count in found.get("rings", ())),
            box=None if box is None else _sides(box),
            points=tuple(map(_text, found.get("points", ()))),
            attributes={_text(name): _text(value) for name, value in found.get("attributes", {}).items()},
            annotator=_text(found["annotator"]) if "annotator" in found else None,
            confidence=None if confidence is None else _numbers([confidence])[0],
            origin=_text(found["origin"]) if "origin" in found else None,
        )


def problem(kind: Kind, coordinates: Sequence[float], rings: Sequence[int] = ()) -> str | None:
    """Why the numbers are not a valid shape, in words; None when they are."""
    if not all(type(one) in {int, float} and -_LARGEST < one < _LARGEST for one in coordinates):
        return f"a {kind} has a coordinate that is not a number of pixels"
    if kind in _LENGTHS and len(coordinates) != _LENGTHS[kind]:
        return f"a {kind} has {len(coordinates)} numbers instead of {_LENGTHS[kind]}"
    if kind is Kind.POLYGON:
        if not rings or 2 * sum(map(abs, rings)) != len(coordinates):
            return f"a polygon has {len(coordinates)} numbers, which are not x and y of all its points"
        if min(map(abs, rings)) < _LEAST_POINTS or max(rings) < 0:
            return "a polygon has a ring of fewer than three points, or only holes"
    if kind is Kind.LINE and (len(coordinates) < 4 or len(coordinates) % 2):
        return f"a line has {len(coordinates)} numbers, not x and y of two points or more"
    if kind is Kind.KEY_POINTS and (not coordinates or len(coordinates) % 3):
        return f"key points have {len(coordinates)} numbers, not x, y and visibility of each"
    if kind is Kind.MASK:
        return _problem_of_mask(coordinates)
    if (
        kind in {Kind.RECTANGLE, Kind.CIRCLE, Kind.ELLIPSE}
        and min(coordinates[2 : _LENGTHS[kind] - (kind is not Kind.CIRCLE)]) < 0
    ):
        return f"a {kind} has a negative size"
    return None


def _problem_of_mask(coordinates: Sequence[float]) -> str | None:
    if any(one != int(one) for one in coordinates) or len(coordinates) < 6:
        return "a mask is not in whole pixels, or has no runs"
    _, _, width, height, *runs = coordinates
    if min(runs) < 0 or width <= 0 or height <= 0 or sum(runs) != width * height:
        return f"a mask has runs of {sum(runs):g} pixels, but {width:g} x {height:g} are {width * height:g}"
    return None if any(runs[1::2]) else "a mask has no pixel"


def rectangle(
    label: str, left: float, top: float, width: float, height: float, angle: float = 0.0, **rest: Any
) -> Shape:
    """A rectangle, turned by ``angle`` degrees about its centre; see Kind."""
    return Shape(label, Kind.RECTANGLE, (left, top, width, height, angle), **rest)


def polygon(label: str, *outlines: Sequence[float], holes: Sequence[Sequence[float]] = (), **rest: Any) -> Shape:
    """A polygon of rings of alternating x and y; a last point that repeats the first is dropped."""
    opened = [_opened(ring) for ring in (*outlines, *holes)]
    counts = [len(ring) // 2 for ring in opened]
    rings = (*counts[: len(outlines)], *(-count for count in counts[len(outlines) :]))
    return Shape(label, Kind.POLYGON, tuple(one for ring in opened for one in ring), rings, **rest)


def _opened(ring: Sequence[float]) -> tuple[float, ...]:
    closed = len(ring) >= 8 and tuple(ring[:2]) == tuple(ring[-2:])
    return tuple(ring[:-2]) if closed else tuple(ring)


def turned(corners: Sequence[float], label: str, **rest: Any) -> Shape | None:
    """The rectangle with these four corners, alternating x and y in order around it; None if they do not form one.

    The first side counts as its width before rotation.
    """
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = zip(corners[::2], corners[1::2], strict=True)
    width, height = math.hypot(bx - ax, by - ay), math.hypot(dx - ax, dy - ay)
    # The diagonals of a rectangle bisect each other and have the same length.
    slack = max(0.5, 0.01 * max(width, height))
    halved = math.hypot(ax + cx - bx - dx, ay + cy - by - dy) / 2 <= slack
    if not halved or abs(math.hypot(cx - ax, cy - ay) - math.hypot(dx - bx, dy - by)) > 2 * slack:
        return None
    angle = math.degrees(math.atan2(by - ay, bx - ax)) % 360 if width else 0.0
    if (dx - ax) * -(by - ay) + (dy - ay) * (bx - ax) < 0:  # drawn counterclockwise
        return turned((*corners[:2], *corners[6:], *corners[4:6], *corners[2:4]), label, **rest)
    middle_x, middle_y = (ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4
    return rectangle(label, middle_x - width / 2, middle_y - height / 2, width, height, angle, **rest)


def corners_of(shape: Shape) -> tuple[float, ...]:
    """x and y of the four corners of a rectangle, clockwise from the one that was upper left before rotation."""
    left, top, width, height, angle = shape.coordinates
    middle_x, middle_y = left + width / 2, top + height / 2
    cosine, sine = _direction(angle)
    found: list[float] = []
    for across, down in ((-width, -height), (width, -height), (width, height), (-width, height)):
        found += (middle_x + (across * cosine - down * sine) / 2, middle_y + (across * sine + down * cosine) / 2)
    return tuple(found)


def area_of(ring: Sequence[float]) -> float:
    """The area in square pixels of a ring that does not cross itself, by the shoelace formula."""
    xs, ys = ring[::2], ring[1::2]
    pairs = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x * below - right * y for x, y, right, below in pairs)) / 2


def outlined(shape: Shape) -> Shape | None:
    """The polygon of a shape with an area; None for one without. The polygon of a circle deviates by at most 0.1 pixel."""
    if shape.kind is Kind.POLYGON:
        return shape
    if shape.kind is Kind.RECTANGLE:
        points = corners_of(shape)
    elif shape.kind is Kind.CIRCLE:
        x, y, radius = shape.coordinates
        points = _points_of((x, y), radius, radius, 0.0)
    elif shape.kind is Kind.ELLIPSE:
        x, y, wide, high, angle = shape.coordinates
        points = _points_of((x, y), wide, high, angle)
    else:
        return None
    return replace(shape, kind=Kind.POLYGON, coordinates=points, rings=(len(points) // 2,))


def _points_of(centre: tuple[float, float], across: float, down: float, angle: float) -> tuple[float, ...]:
    """Points of an ellipse, enough for the lines between them to deviate from it by at most 0.1 pixel."""
    largest = max(across, down)
    steps = math.pi / math.acos(max(1 - _DEVIATION / largest, 0.0)) if largest > _DEVIATION else 0
    count = min(max(8, math.ceil(steps)), _MOST_POINTS)
    cosine, sine = _direction(angle)
    found: list[float] = []
    for number in range(count):
        turn = 2 * math.pi * number / count
        right, below = across * math.cos(turn), down * math.sin(turn)
        found += (centre[0] + right * cosine - below * sine, centre[1] + right * sine + below * cosine)
    return tuple(found)


def moved(shape: Shape, right: int, down: int) -> Shape:
    """The shape moved by pixels to the right and down."""
    if shape.kind in {Kind.POLYGON, Kind.LINE}:
        by = (right, down)
        coordinates = tuple(one + by[place % 2] for place, one in enumerate(shape.coordinates))
    elif shape.kind is Kind.KEY_POINTS:
        steps = (right, down, 0)
        coordinates = tuple(one + steps[place % 3] for place, one in enumerate(shape.coordinates))
    elif shape.kind is Kind.TAG:
        return shape
    else:
        coordinates = (shape.coordinates[0] + right, shape.coordinates[1] + down, *shape.coordinates[2:])
    box = shape.box if shape.box is None else (shape.box[0] + right, shape.box[1] + down, *shape.box[2:])
    return replace(shape, coordinates=coordinates, box=box)


def smallest_rectangle(shape: Shape) -> Shape | None:
    """The turned rectangle with the smallest area around a shape; None for a shape without an area.

    One of its sides coincides with a side of the convex hull. Source: Freeman and Shapira, Determining the minimum-area encasing
    rectangle for an arbitrary closed curve, CACM 18 (1975).
    """
    points = _corners_around(shape)
    if points is None:
        return None
    hull = _hull(points)
    best: tuple[float, tuple[float, float, float, float, float]] | None = None
    for (ax, ay), (bx, by) in zip(hull, [*hull[1:], hull[0]], strict=True):
        angle = math.degrees(math.atan2(by - ay, bx - ax)) % 90
        cosine, sine = _direction(angle)
        along = [x * cosine + y * sine for x, y in hull]
        across = [y * cosine - x * sine for x, y in hull]
        width, height = max(along) - min(along), max(across) - min(across)
        middle, centre = (max(along) + min(along)) / 2, (max(across) + min(across)) / 2
        x, y = middle * cosine - centre * sine, middle * sine + centre * cosine
        if best is None or width * height < best[0]:
            best = width * height, (x - width / 2, y - height / 2, width, height, angle)
    if best is None or not best[0]:
        return None
    return replace(shape, kind=Kind.RECTANGLE, coordinates=best[1], rings=())


def _corners_around(shape: Shape) -> list[tuple[float, float]] | None:
    """Points with the same convex hull as the shape; None for a shape without an area."""
    if shape.kind is Kind.MASK:
        left, top, width, _, *runs = map(int, shape.coordinates)
        ends: dict[int, tuple[int, int]] = {}
        start = 0
        for number, run in enumerate(runs):
            for row in range(start // width, (start + run - 1) // width + 1) if number % 2 and run else ():
                first, last = max(start, row * width) - row * width, min(start + run, (row + 1) * width) - row * width
                known = ends.get(row, (first, last))
                ends[row] = min(known[0], first), max(known[1], last)
            start += run
        return [
            (float(left + x), float(top + row + down)) for row, pair in ends.items() for x in pair for down in (0, 1)
        ]
    outline = outlined(shape)
    if outline is None:
        return None
    return list(zip(outline.coordinates[::2], outline.coordinates[1::2], strict=True))


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The convex hull. Source: Andrew, Another efficient algorithm for convex hulls in two dimensions, IPL 9 (1979)."""
    ordered = sorted(set(points))
    halves = []
    for side in (ordered, ordered[::-1]):
        half: list[tuple[float, float]] = []
        for point in side:
            while len(half) > 1 and _turn(half[-2], half[-1], point) <= 0:
                half.pop()
            half.append(point)
        halves += half[:-1]
    return halves


def _turn(one: tuple[float, float], other: tuple[float, float], third: tuple[float, float]) -> float:
    return (other[0] - one[0]) * (third[1] - one[1]) - (other[1] - one[1]) * (third[0] - one[0])


def _direction(angle: float) -> tuple[float, float]:
    """Cosine and sine, exact for multiples of 90 degrees, so that such boxes keep exact edges."""
    quarters = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0), 180.0: (-1.0, 0.0), 270.0: (0.0, -1.0)}
    return quarters.get(angle % 360) or (math.cos(math.radians(angle)), math.sin(math.radians(angle)))


def _around_points(xs: Sequence[float], ys: Sequence[float]) -> Sides:
    left, top = min(xs), min(ys)
    return float(left), float(top), float(max(xs) - left), float(max(ys) - top)


def _around_rectangle(shape: Shape) -> Sides:
    if shape.coordinates[4] % 360 == 0:
        return shape.coordinates[0], shape.coordinates[1], shape.coordinates[2], shape.coordinates[3]
    corners = corners_of(shape)
    return _around_points(corners[::2], corners[1::2])


def _around_polygon(shape: Shape) -> Sides:
    return _around_points(shape.coordinates[::2], shape.coordinates[1::2])


def _around_circle(shape: Shape) -> Sides:
    x, y, radius = shape.coordinates
    return x - radius, y - radius, 2 * radius, 2 * radius


def _around_ellipse(shape: Shape) -> Sides:
    x, y, across, down, angle = shape.coordinates
    cosine, sine = _direction(angle)
    width, height = math.hypot(across * cosine, down * sine), math.hypot(across * sine, down * cosine)
    return x - width, y - height, 2 * width, 2 * height


def _around_mask(shape: Shape) -> Sides:
    left, top, width, _, *runs = map(int, shape.coordinates)
    first, last = width, -1
    upper, lower = -1, 0
    start = 0
    for number, run in enumerate(runs):
        end = start + run
        if number % 2 and run:
            upper = start // width if upper < 0 else upper
            lower = (end - 1) // width
            whole = start // width != (end - 1) // width  # from the end of a row to the beginning of the next
            first = min(first, 0 if whole else start % width)
            last = max(last, width - 1 if whole else (end - 1) % width)
        start = end
    return float(left + first), float(top + upper), float(last - first + 1), float(lower - upper + 1)


_AROUND = {
    Kind.RECTANGLE: _around_rectangle,
    Kind.POLYGON: _around_polygon,
    Kind.MASK: _around_mask,
    Kind.CIRCLE: _around_circle,
    Kind.ELLIPSE: _around_ellipse,
}


def _numbers(found: object) -> tuple[float, ...]:
    if not isinstance(found, list) or not all(type(one) in {int, float} for one in found):
        raise ValueError("numbers")
    return tuple(map(float, found))


def _sides(found: object) -> Sides:
    left, top, width, height = _numbers(found)
    return left, top, width, height


def _whole(found: object) -> int:
    if type(found) is not int:
        raise ValueError("whole numbers")
    return found


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise ValueError("text")
    return found
