"""Helpers to draw on images: colours of classes, and text in the fonts that the machine has."""

from __future__ import annotations

import colorsys
import contextlib
import unicodedata
from collections.abc import Mapping
from typing import Any

from PIL import ImageFont

from pelagos_contract.text import shown

Answer = Mapping[str, Any]
"""A model's prediction for an image, in the JSON form of the service contract."""
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

SMALLEST = 512
"""Pictures with a smaller longest side are enlarged to this, in pixels: labels on plankton crops of 50 px would be unreadable."""
_OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
"""Colours that colour-blind people can distinguish (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""
_GOLDEN_ANGLE = 0.381966
_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf")
"""System fonts that cover most languages, in order of preference."""
_OWN_FONT = "Aileron"


class PictureError(Exception):
    """The picture cannot be drawn or written; the message says why in one line."""


def colour(class_id: int) -> Colour:
    """The colour of a class, the same in every picture."""
    if class_id < len(_OKABE_ITO):
        return _OKABE_ITO[class_id]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_ANGLE % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def font(size: int) -> ImageFont.FreeTypeFont:
    """The first of ``_FONTS`` that this machine has, else Pillow's own. Raises PictureError."""
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise PictureError("Pillow was built without FreeType, so labels cannot be written; install Pillow's wheel")
    return found


def writable(text: str, face: ImageFont.FreeTypeFont) -> str:
    """The text with characters that the font has: Pillow's own font has only ASCII and shows boxes for everything else."""
    text = shown(text)
    if face.getname()[0] != _OWN_FONT:
        return text
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(c if c.isascii() else "?" for c in plain if not unicodedata.combining(c))


def shortened(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut off with an ellipsis where it is wider than ``width`` pixels."""
    text = writable(text, face)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
