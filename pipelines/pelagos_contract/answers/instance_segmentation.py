"""Draws predictions of instance segmentation: objects in the colours of their classes, the best on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pelagos_contract.answers import detection
from pelagos_contract.answers.drawing import Answer, Box, PictureError, colour, font, shortened
from pelagos_contract.text import shown

_COVER = 110
"""Opacity of an object's colour, of 255: the image below stays visible."""


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """A copy of the image with each object tinted in the colour of its class, with a contour and a label."""
    picture = image.copy()
    unit = max(picture.size)
    width = max(2, round(unit / 400))
    size = round(image.height / scale), round(image.width / scale)
    # The best objects are drawn last, on top of the others.
    for found in reversed(answer["instances"]):
        _cover(picture, found, size, scale, width)
    pen, face = ImageDraw.Draw(picture), font(max(13, round(unit / 56)))
    placed: list[Box] = []
    for found in answer["instances"]:
        text = f"{shortened(found['label'], face, picture.width * 0.5)} {found['score']:.2f}"
        box = detection.scaled(found["box"], scale)
        area = detection.place(pen.textbbox((0, 0), text, face), box, picture.size, placed)
        placed.append(area)
        detection.label(pen, area, text, face, colour(found["classId"]))
    return picture


def _cover(picture: Image.Image, found: Mapping[str, Any], size: tuple[int, int], scale: float, width: int) -> None:
    """Tint the pixels of an object in its colour, and draw a contour with a dark line around them.

    Raises:
        PictureError: its mask does not fit an image of ``size`` (height, width).
    """
    try:
        if tuple(found["mask"]["size"]) != size:
            raise ValueError(f"a mask is of an image of {found['mask']['size']} pixels")
        stencil, (left, top) = _stencil(found["mask"]["counts"], size, scale, 2 * width + 2)
    except ValueError as error:  # servers are not trusted to send valid masks
        height, wide = size
        raise PictureError(
            f"the answer does not fit the image of {wide} x {height} pixels: {shown(str(error))}"
        ) from error
    shade = colour(found["classId"])
    # The mask eroded, and dilated by a pixel; the contour is between the two.
    inner = stencil.filter(ImageFilter.MinFilter(2 * width + 1))
    outer = stencil.filter(ImageFilter.MaxFilter(3))
    picture.paste(shade, (left, top), inner.point([value * _COVER // 255 for value in range(256)]))
    picture.paste((0, 0, 0), (left, top), ImageChops.subtract(outer, stencil))
    picture.paste(shade, (left, top), ImageChops.subtract(stencil, inner))


def _stencil(counts: str, size: tuple[int, int], scale: float, margin: int) -> tuple[Image.Image, tuple[int, int]]:
    """A mask as a grey picture of levels 0 and 255 with a margin, and its left top corner on the scaled image."""
    # Imported here, since the control plane does not need numpy before predictions arrive.
    import numpy as np

    from pelagos_contract import run_lengths

    part = run_lengths.part_of(counts, size)
    height, width = part.inside.shape
    pixels = Image.fromarray(part.inside.astype(np.uint8) * 255)
    left, top = round(part.left * scale), round(part.top * scale)
    across, down = round((part.left + width) * scale) - left, round((part.top + height) * scale) - top
    found = Image.new("L", (max(across, 1) + 2 * margin, max(down, 1) + 2 * margin))
    if height and width:
        found.paste(pixels.resize((max(across, 1), max(down, 1)), Image.Resampling.NEAREST), (margin, margin))
    return found, (left - margin, top - margin)
