"""The bounding box of an outline: of polygons, and of COCO's run-length encoded masks.

Called in a child of the sandbox by the parsers of formats. The box of a mask is computed from its runs, without decoding pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

from pelagos_pipelines.annotations.untrusted_input import invalid

_LEAST_NUMBERS = 6
"""Least numbers of a polygon: three points."""
_MOST_SHIFTS = 12
"""Most groups of 5 bits in a count of a compressed mask."""
_HINT = "export it again as COCO detection"

Sides = tuple[float, float, float, float]


def box_of(outline: object, place: str, size: tuple[int, int] | None) -> Sides:
    """Left, top, width and height in pixels. ``size`` is that of the image, if known.

    Raises:
        RefusedError: it is neither polygons nor a non-empty mask of that size.
    """
    if isinstance(outline, dict):
        return _of_mask(outline, place, size)
    if not isinstance(outline, list):
        _refuse(f"{place} is neither a list of polygons nor a mask")
    # An object in several parts has several polygons and one box; a list of numbers is a single polygon.
    polygons = outline if all(isinstance(part, list) for part in outline) else [outline]
    for polygon in polygons:
        if len(polygon) < _LEAST_NUMBERS or len(polygon) % 2:
            _refuse(f"{place} has a polygon of {len(polygon)} numbers; it must have x and y of three points or more")
        if not all(map(is_finite, polygon)):
            _refuse(f"{place} must contain only finite numbers")
    return around(
        [value for polygon in polygons for value in polygon[::2]],
        [value for polygon in polygons for value in polygon[1::2]],
    )


def around(xs: Sequence[float], ys: Sequence[float]) -> Sides:
    """The bounding box of points."""
    left, top = min(xs), min(ys)
    return float(left), float(top), float(max(xs) - left), float(max(ys) - top)


def is_finite(value: object) -> bool:
    """Whether it is a finite number."""
    if type(value) is float:
        return math.isfinite(value)
    try:
        return type(value) is int and math.isfinite(value)
    except OverflowError:  # an integer with hundreds of digits
        return False


def _refuse(words: str) -> NoReturn:
    raise invalid(f"{words}; {_HINT}")


def _of_mask(mask: dict[str, Any], place: str, size: tuple[int, int] | None) -> Sides:
    runs, (_, height) = runs_of(mask, place, size)
    box = _of_runs(runs, height)
    if box is None:
        _refuse(f"{place} is a mask without a pixel")
    return box


def runs_of(mask: dict[str, Any], place: str, size: tuple[int, int] | None) -> tuple[list[int], tuple[int, int]]:
    """The runs of a mask down its columns, outside first, and its width and height.

    Raises:
        RefusedError: they are invalid, or not of an image of ``size``, if that is known.
    """
    shape, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side > 0 for side in shape)):
        _refuse(f"{place}.size must be height and width in pixels")
    height, width = shape
    if size is not None and size != (width, height):
        _refuse(f"{place}.size is {width} x {height} pixels, but the image has {size[0]} x {size[1]}")
    runs = _uncompressed(counts, place) if isinstance(counts, str) else counts
    if not (isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)):
        _refuse(f"{place}.counts is not a run-length encoding")
    if sum(runs) != height * width:
        _refuse(f"{place}.counts adds up to {sum(runs)} pixels; {width} x {height} are {height * width}")
    return runs, (width, height)


def _of_runs(runs: list[int], height: int) -> Sides | None:
    ends = [0]
    for run in runs:
        ends.append(ends[-1] + run)
    inside = [(start, end - 1) for start, end in list(pairwise(ends))[1::2] if end > start]
    if not inside:
        return None
    left, right = inside[0][0] // height, inside[-1][1] // height
    top, bottom = height, -1
    for first, last in inside:
        over = first // height != last // height  # from the end of a column to the beginning of the next
        top = min(top, 0 if over else first % height)
        bottom = max(bottom, height - 1 if over else last % height)
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def _uncompressed(text: str, place: str) -> list[int]:
    """The counts of COCO's compressed form: 5 bits per character from '0' on, differences from the fourth count on."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 1 << 6 or shift >= _MOST_SHIFTS:
            _refuse(f"{place}.counts is not a run-length encoding")
        value |= (bits & 0x1F) << 5 * shift
        shift += 1
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << 5 * shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        _refuse(f"{place}.counts ends within a number")
    return runs
