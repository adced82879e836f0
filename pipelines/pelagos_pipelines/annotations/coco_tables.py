"""Entries of a COCO file as nearly all are, many at a time: columns of numbers that need no words.

Called by coco_document.py in a child of the sandbox. Whatever is not plain about one of the entries, be it right or wrong, is for
the code that looks at each: `images` and `boxes` then say that they have taken none.
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
"""Of the sides of an image: one pixel more than may be."""
_TOLD = frozenset({"image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "attributes"})
"""The members of an annotation that are read."""
_SHOWN = ("file_name", "width", "height", "group", "split")
"""Those of an image, beside its id."""


@dataclass(frozen=True)
class Plain:
    """Boxes by the index of their image and category, and their sides; ``told`` have an area, ``slight`` are below a pixel."""

    images: array[int]
    classes: array[int]
    sides: array[float]
    told: int
    slight: int


def boxes(
    entries: Sequence[Any], images: Mapping[int, int], classes: Mapping[int, int], least: float, as_good_as: float
) -> Plain | None:
    """The boxes of annotations; None when one of them is not plain.

    Plain are: numbers for ids that ``images`` and ``classes`` have, a box in numbers that is wider than ``least`` pixels, no
    crowd, outline, key points or angle, and an area that is not the one that left, top, right and bottom would have, by
    ``as_good_as``.
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
    """Whether all areas are those of the boxes, as they nearly always are, by no more than ``near``."""
    if not areas:
        return True
    products = map(operator.mul, widths, heights)
    farthest: float = max(map(abs, map(operator.sub, products, areas)))
    return farthest <= near


def images(entries: Sequence[Any]) -> tuple[list[int], list[tuple[object, ...]]] | None:
    """Ids, and name, width, height, group and split of images; None when one of them is not plain.

    Plain are: numbers for ids and for sizes, a name, and text for what else is told.
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
    """Whether there is more than a box about one of them."""
    if any(any(columns.get(name, ())) for name in ("iscrowd", "segmentation", "keypoints")):
        return True
    return any("rotation" in one for one in columns.get("attributes", ()) if isinstance(one, dict))


def _numbers(listed: Sequence[Any], each: int | None = None) -> tuple[array[float], list[float]] | None:
    """All that stands in the lists, packed and not, if it is finite numbers, and ``each`` of them in a list."""
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
    # The sum is finite when all are; of numbers whose sum is too large each is looked at elsewhere.
    return (found, numbers) if math.isfinite(sum(numbers)) else None


def _columns(entries: Sequence[Any]) -> dict[str, list[Any]] | None:
    """What is told of the annotations, by the name of the member; None when not all have the same members of these."""
    if _types(entries) != {dict}:
        return None
    # With as many members as the first and all of its names, each has the same: no need to look for others, which takes longer.
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
