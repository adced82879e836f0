"""Draws predictions of semantic segmentation: the class of each pixel, and the share of the image that each class covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, ImageDraw

from pelagos_contract.answers.drawing import Answer, Colour, PictureError, colour, font, shortened
from pelagos_contract.text import shown

OPACITY = 0.5
NAMED = 12
"""Most classes in the legend."""
_BACKGROUND: Colour = (24, 26, 30)
_TEXT: Colour = (240, 240, 240)
_DARKER = 0.5
"""Factor on the brightness of pixels at the edges of segments."""


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """The image with the colours of classes over it, and a legend."""
    picture = coloured(image, answer["classes"], scale)
    return with_legend(picture, [(row, f"{row['share']:.1%}") for row in answer["classes"]])


def coloured(
    image: Image.Image,
    found: Sequence[Answer],
    scale: float,
    shade: Callable[[Answer], Colour] = lambda one: colour(one["classId"]),
) -> Image.Image:
    """The image, which was enlarged by ``scale``, tinted by the masks of ``found``, with dark lines around them.

    Raises:
        PictureError: a mask does not fit this image.
    """
    # Imported here, since the control plane does not need numpy before predictions arrive.
    import numpy as np

    from pelagos_contract import run_lengths

    size = round(image.height / scale), round(image.width / scale)
    numbers: Any = np.zeros(size, np.int32)
    shades = [(0, 0, 0)]
    for one in found:
        if one.get("mask") is None:
            continue
        try:
            part = run_lengths.part_of(one["mask"]["counts"], size)
        except ValueError as error:  # servers are not trusted to send valid masks
            where = f"{size[1]} x {size[0]} pixels"
            raise PictureError(f"the answer does not fit the image of {where}: {shown(str(error))}") from error
        height, width = part.inside.shape
        shades.append(shade(one))
        numbers[part.top : part.top + height, part.left : part.left + width][part.inside] = len(shades) - 1
    # Nearest neighbour, since the numbers are labels and cannot be interpolated.
    resized: Any = np.asarray(Image.fromarray(numbers).resize(image.size, Image.Resampling.NEAREST))
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    inside = resized > 0
    pixels[inside] = (1 - OPACITY) * pixels[inside] + OPACITY * np.array(shades, np.float32)[resized[inside]]
    edges: Any = np.zeros(resized.shape, bool)
    edges[1:] |= resized[1:] != resized[:-1]
    edges[:, 1:] |= resized[:, 1:] != resized[:, :-1]
    pixels[edges] *= _DARKER
    return Image.fromarray(pixels.round().astype(np.uint8))


def with_legend(picture: Image.Image, rows: Sequence[tuple[Answer, str]]) -> Image.Image:
    """The picture with a legend below it: colour, label and text of up to ``NAMED`` rows."""
    told = rows[:NAMED]
    size = max(15, round(picture.width / 40))
    face, line = font(size), round(size * 1.7)
    more = f"and {len(rows) - NAMED} more" if len(rows) > NAMED else "nothing found" if not rows else ""
    columns = max(1, min(2, picture.width // (size * 18)))
    lines = -(-len(told) // columns) + bool(more)
    whole = Image.new("RGB", (picture.width, picture.height + lines * line + size), _BACKGROUND)
    whole.paste(picture, (0, 0))
    pen = ImageDraw.Draw(whole)
    wide = picture.width / columns
    for index, (row, words) in enumerate(told):
        left, middle = (index % columns) * wide + size, picture.height + size / 2 + (index // columns + 0.5) * line
        pen.rectangle((left, middle - size / 2, left + size, middle + size / 2), fill=colour(row["classId"]))
        end = left + wide - 2 * size
        label = shortened(row["label"], face, wide - 5 * size - face.getlength(words))
        pen.text((left + 1.6 * size, middle), label, fill=_TEXT, font=face, anchor="lm")
        pen.text((end, middle), words, fill=_TEXT, font=face, anchor="rm")
    if more:
        pen.text((size, whole.height - size / 2 - line / 2), more, fill=_TEXT, font=face, anchor="lm")
    return whole
