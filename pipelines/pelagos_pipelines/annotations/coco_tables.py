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

    images: Sequence[int]
    classes: Sequence[int]
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
    whose, which = [*map(images.get, columns["image_id"])], [*map(classes.get, columns["category_id"])]
    sides, areas = _numbers(columns["bbox"], 4), _numbers([columns.get("area", ())])
    if None in whose or None in which or sides is None or areas is None:
        return None
    left, top, width, height = (sides[side::4] for side in range(4))
    if min(width) <= least or min(height) <= 0:
        return None
    looked = () if _are_of_boxes(width, height, areas, as_good_as) else areas
    for x, y, right, bottom, area in zip(left, top, width, height, looked, strict=False):
        if right <= x or bottom <= y or math.isclose(right * bottom, area, rel_tol=as_good_as):
            continue
        if math.isclose((right - x) * (bottom - y), area, rel_tol=as_good_as):
            return None
    slight = sum(side < 1 for side in height) if min(height) < 1 else 0
    return Plain(whose, which, sides, sum(area > 0 for area in areas), slight)  # type: ignore[arg-type]


def _are_of_boxes(widths: Sequence[float], heights: Sequence[float], areas: Sequence[float], as_good_as: float) -> bool:
    """Whether all areas are those of the boxes, as they nearly always are, by less than would do for the smallest of them."""
    if not areas:
        return True
    products = map(operator.mul, widths, heights)
    farthest: float = max(map(abs, map(operator.sub, products, areas)))
    return farthest <= as_good_as * min(areas)


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


def _numbers(listed: Sequence[Any], each: int | None = None) -> array[float] | None:
    """All that stands in the lists, if it is finite numbers, and ``each`` of them in a list."""
    if each is not None and (_types(listed) != {list} or {*map(len, listed)} != {each}):
        return None
    numbers = [*chain.from_iterable(listed)]
    if not _types(numbers) <= _NUMBERS:
        return None
    try:
        found = array("d", numbers)
    except OverflowError:
        return None
    # The sum is finite when all are; of numbers whose sum is too large each is looked at elsewhere.
    return found if math.isfinite(sum(found)) else None


def _columns(entries: Sequence[Any]) -> dict[str, tuple[Any, ...]] | None:
    """What is told of the annotations, by the name of the member; None when not all have the same members of these."""
    if _types(entries) != {dict}:
        return None
    names = sorted(_TOLD.intersection(*entries[:1]))
    if len(names) < 2:  # what is of one name alone are no rows; and a box has three
        return None
    if not _TOLD.isdisjoint(set().union(*entries).difference(names)):
        return None
    try:
        return dict(zip(names, zip(*map(operator.itemgetter(*names), entries), strict=True), strict=True))
    except KeyError:
        return None


def _types(values: Collection[Any]) -> set[type]:
    return {*map(type, values)}
