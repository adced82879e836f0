"""Reads many plain entries of a COCO file at once, as columns of numbers. Nearly all entries are plain.

Called by coco_document.py in a child of the sandbox. If any entry is not plain, valid or not, `images` and `boxes` return None
and take none; then coco_document.py looks at each entry.
"""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

_NUMBERS = frozenset({int, float})
_SPOKEN = frozenset({str, type(None)})
_LARGEST = 1 << 31
"""Exclusive upper bound of the sides of an image in pixels."""
_TOLD = frozenset({"image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "attributes"})
"""The members of an annotation that are read."""
_SHOWN = ("file_name", "width", "height", "group", "split")
"""The members of an image that are read, beside its id."""


@dataclass(frozen=True)
class Plain:
    """Boxes: indices of image and category, and sides. ``told`` counts those with an area, ``slight`` those below a pixel."""

    images: array[int]
    classes: array[int]
    sides: array[float]
    told: int
    slight: int


def boxes(
    entries: Sequence[Any], images: Mapping[int, int], classes: Mapping[int, int], least: float, as_good_as: float
) -> Plain | None:
    """The boxes of annotations; None when one of them is not plain.

    A plain annotation has numeric ids that ``images`` and ``classes`` contain and a numeric box wider than ``least`` pixels. It
    has no crowd, outline, key points or angle, and its area does not suggest that the box is left, top, right and bottom, with
    the tolerance ``as_good_as``.
    """
    columns = _columns(entries)
    if columns is None or not columns.keys() >= {"image_id", "category_id", "bbox"} or _say_more(columns):
        return None
    if _types(columns["image_id"]) | _types(columns["category_id"]) != {int}:
        return None
    try:
        whose = array("i", map(images.__getitem__, columns["image_id"]))
        which = array("i", map(classes.__getitem__, columns["category_id"]))
    except KeyError:
        return None
    found, told = _numbers(columns["bbox"], 4), _numbers([columns.get("area", ())])
    if found is None or told is None:
        return None
    (sides, numbers), (_, areas) = found, told
    left, top, width, height = (numbers[side::4] for side in range(4))
    lowest = min(height)
    if min(width) <= least or lowest <= 0:
        return None
    smallest = min(areas, default=0)
    looked = () if _are_of_boxes(width, height, areas, as_good_as * smallest) else areas
    for x, y, right, bottom, area in zip(left, top, width, height, looked, strict=False):
        if right <= x or bottom <= y or math.isclose(right * bottom, area, rel_tol=as_good_as):
            continue
        if math.isclose((right - x) * (bottom - y), area, rel_tol=as_good_as):
            return None
    slight = sum(side < 1 for side in height) if lowest < 1 else 0
    return Plain(whose, which, sides, len(areas) if smallest > 0 else sum(area > 0 for area in areas), slight)


def _are_of_boxes(widths: Sequence[float], heights: Sequence[float], areas: Sequence[float], near: float) -> bool:
    """Whether all areas equal those of the boxes up to ``near``, as they nearly always do."""
    if not areas:
        return True
    products = map(operator.mul, widths, heights)
    farthest: float = max(map(abs, map(operator.sub, products, areas)))
    return farthest <= near


def images(entries: Sequence[Any]) -> tuple[list[int], list[tuple[object, ...]]] | None:
    """Ids, and name, width, height, group and split of images; None when one of them is not plain.

    A plain image has numeric id and size, a name, and text for everything else.
    """
    if _types(entries) != {dict}:
        return None
    ids, *told = ([entry.get(name) for entry in entries] for name in ("id", *_SHOWN))
    names, widths, heights, groups, splits = told
    if not (_types(ids) == _types(widths) == _types(heights) == {int} and _types(names) == {str}):
        return None
    if not _types(groups) | _types(splits) <= _SPOKEN:
        return None
    if min(*widths, *heights) < 0 or max(*widths, *heights) >= _LARGEST:
        return None
    return ids, [*zip(*told, strict=True)]


def _say_more(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Whether any annotation has more than a box."""
    if any(any(columns.get(name, ())) for name in ("iscrowd", "segmentation", "keypoints")):
        return True
    return any("rotation" in one for one in columns.get("attributes", ()) if isinstance(one, dict))


def _numbers(listed: Sequence[Any], each: int | None = None) -> tuple[array[float], list[float]] | None:
    """All numbers of the lists, packed and as a list; None unless they are finite, and ``each`` of them in every list."""
    if each is not None and (_types(listed) != {list} or {*map(len, listed)} != {each}):
        return None
    numbers = [*chain.from_iterable(listed)]
    kinds = _types(numbers)
    if not kinds <= _NUMBERS:
        return None
    try:
        found = array("d", numbers)
    except OverflowError:
        return None
    if int in kinds:
        numbers = found.tolist()
    # A finite sum means finite numbers. If the sum overflows, the slow path checks each.
    return (found, numbers) if math.isfinite(sum(numbers)) else None


def _columns(entries: Sequence[Any]) -> dict[str, list[Any]] | None:
    """The read members of the annotations as columns; None when not all annotations have the same ones."""
    if _types(entries) != {dict}:
        return None
    # Entries with as many members as the first and all of its names have the same members. That is faster than intersecting.
    are_even = {*map(len, entries)} == {len(entries[0])}
    names = entries[0] if are_even else _TOLD.intersection(entries[0])
    try:
        found = {name: [entry[name] for entry in entries] for name in names}
    except KeyError:
        return None
    if not are_even and not _TOLD.isdisjoint(set().union(*entries).difference(names)):
        return None
    return found


def _types(values: Collection[Any]) -> set[type]:
    return {*map(type, values)}
