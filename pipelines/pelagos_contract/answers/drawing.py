"""What is needed to draw on images: colours of classes, and text in the fonts that there are."""

from __future__ import annotations

import colorsys
import contextlib
import unicodedata
from collections.abc import Mapping
from typing import Any

from PIL import ImageFont

from pelagos_contract.text import shown

Answer = Mapping[str, Any]
"""What a model answers for an image, in the JSON shape of the service contract."""
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

SMALLEST = 512
"""Smaller pictures are enlarged to this side in pixels: plankton is cut out at 50 px, on which no label can be read."""
_OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
"""Colours that colour-blind people tell apart (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""
_GOLDEN_ANGLE = 0.381966
_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf")
"""Fonts of the system with letters of most languages, in order of preference."""
_OWN_FONT = "Aileron"


class PictureError(Exception):
    """The picture cannot be made or written; the message says why, in one line."""


def colour(class_id: int) -> Colour:
    """The colour of a class, the same in every picture."""
    if class_id < len(_OKABE_ITO):
        return _OKABE_ITO[class_id]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_ANGLE % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def font(size: int) -> ImageFont.FreeTypeFont:
    """The first of the fonts that this machine has, else that of Pillow. Raises PictureError."""
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise PictureError("Pillow was built without FreeType, so labels cannot be written; install Pillow's wheel")
    return found


def writable(text: str, face: ImageFont.FreeTypeFont) -> str:
    """What the font can write of a text: Pillow's own one knows ASCII only, and shows boxes for all else."""
    text = shown(text)
    if face.getname()[0] != _OWN_FONT:
        return text
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(c if c.isascii() else "?" for c in plain if not unicodedata.combining(c))


def shortened(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """As much of a text as fits into ``width`` pixels."""
    text = writable(text, face)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
