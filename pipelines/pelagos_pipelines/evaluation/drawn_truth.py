"""Ground truth as pixel maps, for tasks that label pixels; used by training and by metrics.

A pixel has at most one annotation: of overlapping shapes the smaller one is on top, as in the panoptic view of a version, and of
equal ones the later. Pixels without a shape have no class: this is learned, and a prediction of a class there is wrong. "No
class" is not a class itself, and is not part of means. The rule is the same in training, evaluation and serving.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.coco_panoptic import THING
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.serving.maps import NONE

KEPT = 2**28
"""Most pixels of rasterized shapes that are held at once; beyond it, shapes are rasterized twice."""


def is_stuff(shape: Shape) -> bool:
    """Whether the shape is marked as stuff; unmarked shapes are things."""
    return shape.attributes.get(THING) == "false"


@dataclass(frozen=True)
class Drawn:
    """Int32 ``pixels`` [height, width]: 1 + the segment's index in ``class_ids`` [n], or maps.NONE. Each segment has a pixel.

    The last ``crowds`` segments are crowds: regions with several objects that were not drawn one by one.
    """

    pixels: npt.NDArray[np.int32]
    class_ids: npt.NDArray[np.int64]
    crowds: int = 0

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The same map with 1 + the class index."""
        return np.concatenate(([NONE], self.class_ids + 1))[self.pixels]


def segments(
    shapes: Sequence[Shape], class_ids: npt.NDArray[np.int64], size: tuple[int, int], stuff: Collection[int] = ()
) -> Drawn:
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
    """The map with crowds added where there is no segment, all crowds of a class as one region."""
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


def _compact(pixels: npt.NDArray[np.int32], ids: npt.NDArray[np.int64]) -> Drawn:
    """The map without segments that others cover completely."""
    seen = np.bincount(pixels.ravel(), minlength=len(ids) + 1)[1:] > 0
    if seen.all():
        return Drawn(pixels, ids)
    numbers = np.concatenate(([NONE], np.cumsum(seen) * seen)).astype(np.int32)
    return Drawn(numbers[pixels], ids[seen])
