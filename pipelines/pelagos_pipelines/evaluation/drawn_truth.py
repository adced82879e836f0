"""True annotations as maps of pixels, of tasks that are of pixels: what training learns, and what metrics judge by.

A pixel has one annotation at most: of shapes that overlap the smaller one lies on top, as in the panoptic view of a version, of
equal ones the later. Pixels that no shape covers are of no class: that is learned, and an answer that says otherwise is wrong.
They are no class of their own, and in no mean. Which pixels those are is the same in training, evaluation and serving.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.coco_panoptic import THING
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.serving.maps import NONE

KEPT = 2**28
"""Pixels around shapes of an image that are held at once; thousands of shapes as large as their image are drawn twice."""


def is_stuff(shape: Shape) -> bool:
    """Whether the shape says that its class has an extent and no objects. What says nothing is an object."""
    return shape.attributes.get(THING) == "false"


@dataclass(frozen=True)
class Drawn:
    """Int32 ``pixels`` [height, width]: the place in ``class_ids`` [n] and one more, or maps.NONE. Each of them has a pixel.

    The last ``crowds`` of them are no objects, but regions with some that nobody drew one by one.
    """

    pixels: Any
    class_ids: Any
    crowds: int = 0

    @property
    def classes(self) -> Any:
        """Likewise, with the index of the class and one more."""
        return np.concatenate(([NONE], self.class_ids + 1))[self.pixels]


def segments(shapes: Sequence[Shape], class_ids: Any, size: tuple[int, int], stuff: Collection[int] = ()) -> Drawn:
    """The segments of an image of ``size`` (width, height): one for each shape, and one for all of a class in ``stuff``."""
    areas, parts, kept = list[int](), list[Any](), 0
    for shape in shapes:
        part = masks.part_of(shape, *size)
        kept += part[2].size
        areas.append(int(part[2].sum()))
        parts.append(part if kept <= KEPT else None)
    order = sorted(range(len(parts)), key=lambda place: -areas[place])
    pixels: Any = np.zeros((size[1], size[0]), np.int32)
    ids: list[int] = []
    extents: dict[int, int] = {}
    for place in order:
        left, top, inside = parts[place] or masks.part_of(shapes[place], *size)
        label = int(class_ids[place])
        if label in stuff and label in extents:
            number = extents[label]
        else:
            ids.append(label)
            number = extents[label] = len(ids)
        pixels[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = number
    return _compact(pixels, np.array(ids, np.int64))


def with_crowds(drawn: Drawn, crowds: Sequence[Shape], class_ids: Sequence[int]) -> Drawn:
    """The same with crowds, all of a class in one region, where no segment is."""
    height, width = drawn.pixels.shape
    pixels, ids = drawn.pixels.copy(), list[int]()
    for class_id in sorted(set(class_ids)):
        number = len(drawn.class_ids) + len(ids) + 1
        for crowd, of in zip(crowds, class_ids, strict=True):
            if of == class_id:
                left, top, inside = masks.part_of(crowd, width, height)
                part = pixels[top : top + inside.shape[0], left : left + inside.shape[1]]
                part[inside & (part == NONE)] = number
        if (pixels == number).any():
            ids.append(class_id)
    return Drawn(pixels, np.concatenate((drawn.class_ids, np.array(ids, np.int64))), len(ids))


def _compact(pixels: Any, ids: Any) -> Drawn:
    """Without segments that others cover wholly."""
    seen = np.bincount(pixels.ravel(), minlength=len(ids) + 1)[1:] > 0
    if seen.all():
        return Drawn(pixels, ids)
    numbers = np.concatenate(([NONE], np.cumsum(seen) * seen)).astype(np.int32)
    return Drawn(numbers[pixels], ids[seen])
