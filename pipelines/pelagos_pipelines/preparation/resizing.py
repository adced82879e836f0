"""Scales annotations to the size of images that were reduced. Called by the step prepare after cleaning.

inspection.py has reduced the pixels; cleaning has worked with the sizes of the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos_contract.dataset import Change
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Box, Boxes
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.preparation.cleaning import Cleaned
from pelagos_pipelines.preparation.integrity import Inspection


def scaled(cleaned: Cleaned, inspections: Mapping[str, Inspection]) -> Cleaned:
    """``cleaned`` with annotations in pixels of the version's images."""
    collection = cleaned.collection
    numbers = {name: number for number, name in enumerate(collection.classes)}
    altered = Altered(collection.altered.counts.copy())
    images = []
    for image in collection.images:
        before, now = inspections[image.path], inspections[image.path].shown
        if now == (before.width, before.height):
            images.append(image)
            continue
        by = now[0] / before.width, now[1] / before.height
        boxes = [_box(box, by) for box in image.boxes]
        packed = Boxes.of(boxes, numbers, collection.classes) if boxes else image.boxes
        shapes, crowds = (
            tuple(each for shape in drawn if (each := _shape(shape, by, now, altered)) is not None)
            for drawn in (image.shapes, image.crowds)
        )
        images.append(replace(image, width=now[0], height=now[1], boxes=packed, shapes=shapes, crowds=crowds))
    return replace(cleaned, collection=replace(collection, images=tuple(images), altered=altered))


def _box(box: Box, by: tuple[float, float]) -> Box:
    return Box(box.label, box.x * by[0], box.y * by[1], box.width * by[0], box.height * by[1])


def _shape(shape: Shape, by: tuple[float, float], size: tuple[int, int], altered: Altered) -> Shape | None:
    """The scaled shape; None for a mask of which no pixel is left."""
    if shape.kind is Kind.MASK:
        found = _mask(shape, by, size)
        if found is None:
            altered.add(shape, Change.LEFT_OUT)
        return found
    if shape.kind is Kind.RECTANGLE and shape.angle % 360:
        # The two factors differ only by rounding to whole pixels, but would skew the rectangle: use their mean.
        left, top, width, height, angle = shape.coordinates
        mean = math.sqrt(by[0] * by[1])
        x, y = (left + width / 2) * by[0], (top + height / 2) * by[1]
        turned = (x - width * mean / 2, y - height * mean / 2, width * mean, height * mean, angle)
        return replace(shape, coordinates=turned, box=None)
    if shape.kind is Kind.RECTANGLE:
        straight = (*(side * by[place % 2] for place, side in enumerate(shape.coordinates[:4])), 0.0)
        return replace(shape, coordinates=straight, box=None)
    return replace(shape, coordinates=tuple(one * by[at % 2] for at, one in enumerate(shape.coordinates)), box=None)


def _mask(shape: Shape, by: tuple[float, float], size: tuple[int, int]) -> Shape | None:
    """The scaled mask: pixels whose centre lies on a pixel of the original mask."""
    import numpy as np

    left, top, wide, high = map(int, shape.coordinates[:4])
    pixels = masks.array_of(shape)
    places: list[Any] = []
    for side, scale, start, length in ((size[0], by[0], left, wide), (size[1], by[1], top, high)):
        at: Any = np.floor((np.arange(side) + 0.5) / scale).astype(int) - start
        inside = np.flatnonzero((at >= 0) & (at < length))
        places.append((at[inside], int(inside[0]) if len(inside) else 0))
    (columns, x), (rows, y) = places
    found = pixels[np.ix_(rows, columns)]
    if not found.any():
        return None
    return masks.of_array(shape.label, found, (x, y), attributes=shape.attributes, confidence=shape.confidence)
