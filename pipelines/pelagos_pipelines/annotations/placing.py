"""Checks whether boxes and shapes are on their images. Called by cleaning, which clips rounding errors at the edges, and by
readers that refuse a source anyway, so that all faults are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, ImageRecord, Sizes
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import format_names, invalid, printable

OVERHANG = 1.0
"""Pixels by which a box may exceed its image, since tools round outwards. Such boxes are clipped at the edge."""


def clip(box: Box, width: int, height: int) -> Box | None:
    """The box if it is inside, the part inside if it exceeds the edge by rounding, else None."""
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    if not (box.width > 0 and box.height > 0):
        return None
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return box
    far = left < -OVERHANG or top < -OVERHANG or right > width + OVERHANG or bottom > height + OVERHANG
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    if far or not (right > left and bottom > top):  # also for NaN
        return None
    return Box(box.label, left, top, right - left, bottom - top)


def clip_shape(shape: Shape, width: int, height: int) -> Shape | None:
    """The same for a shape. The corners of a turned rectangle may exceed the edge if its centre is inside."""
    if shape.kind is Kind.RECTANGLE and shape.angle % 360:
        left, top, wide, high = shape.coordinates[:4]
        return shape if 0 <= left + wide / 2 <= width and 0 <= top + high / 2 <= height and wide * high > 0 else None
    sides = shape.sides
    if sides is None or not (sides[2] > 0 and sides[3] > 0):
        return None
    whole = Box(shape.label, *sides)
    inside = clip(whole, width, height)
    if inside is None or inside is whole:
        return None if inside is None else shape
    if shape.kind is Kind.RECTANGLE:
        return replace(shape, coordinates=(inside.x, inside.y, inside.width, inside.height, 0.0))
    if shape.kind is Kind.MASK:
        return masks.of_array(shape.label, masks.on_image(shape, width, height), attributes=shape.attributes)
    edges = (float(width), float(height))
    moved = (min(max(one, 0.0), edges[place % 2]) for place, one in enumerate(shape.coordinates))
    return replace(shape, coordinates=tuple(moved))


def told(image: ImageRecord, box: Box) -> str:
    """The description of a misplaced box for messages."""
    return f"{image.path} ({box.label}: {box.x:g}, {box.y:g}, {box.width:g}, {box.height:g})"


def told_shape(image: ImageRecord, shape: Shape) -> str:
    """The description of a misplaced shape for messages, by its box."""
    return told(image, Box(shape.label, *(shape.sides or (0.0, 0.0, 0.0, 0.0))))


def refusal(wrong: Sequence[str]) -> RefusedError:
    """The refusal of boxes that are not on their images."""
    return RefusedError(
        Reason.ANNOTATION_OUTSIDE_IMAGE,
        f"{len(wrong)} boxes lie outside of their image or have no area (x, y, width, height in pixels): {format_names(wrong)};"
        " correct or remove them, or set cleaning.outside to Clip or Drop when they exceed their image",
        "source",
    )


def of_another_size(image: ImageRecord, width: int, height: int) -> RefusedError | None:
    """The refusal of an image whose size differs from the annotations'; None if it is equal or not stated."""
    if image.width is None or image.height is None or (image.width, image.height) == (width, height):
        return None
    return invalid(
        f"{printable(image.path)} is annotated as {image.width} x {image.height} pixels, but is {width} x {height}"
        " (upright, by its EXIF orientation); boxes would be misplaced: annotate it again, or correct its width and height"
    )


def refuse_any(faults: Faults, images: Iterable[ImageRecord], sizes: Sizes) -> None:
    """Refuse a source with faults, and report misplaced annotations together with them.

    Raises:
        RefusedError: there are faults.
    """
    if not faults.count:
        return
    wrong = []
    for image in images:
        size = sizes(image.path)
        if size is None:
            continue
        if misfit := of_another_size(image, *size):
            faults.add(misfit)
        else:
            wrong += [told(image, box) for box in image.boxes if clip(box, *size) is None]
            drawn = [shape for shape in image.shapes if shape.kind is not Kind.TAG]
            wrong += [told_shape(image, shape) for shape in drawn if clip_shape(shape, *size) is None]
    if wrong:
        faults.add(refusal(wrong))
    faults.refuse_any()
