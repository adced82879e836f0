"""Images with what a model found in them: boxes with labels, or a caption with the most probable classes. For ``predict``."""

from __future__ import annotations

import colorsys
import contextlib
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from pelagos_contract.text import shown

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

SMALLEST = 512
"""Smaller pictures are enlarged to this side in pixels: plankton is cut out at 50 px, on which no label can be read."""
TOP = 5
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
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
_BACKGROUND: Colour = (24, 26, 30)
_TEXT: Colour = (240, 240, 240)
_DIM: Colour = (90, 94, 102)


class PictureError(Exception):
    """The picture cannot be made or written; the message says why, in one line."""


def check_target(target: Path) -> None:
    """Raises PictureError when a picture could not be written there."""
    if target.suffix.lower() not in _SUFFIXES:
        raise PictureError(f"{target}: the name of the picture must end in {', '.join(_SUFFIXES)}")
    if not target.absolute().parent.is_dir():
        raise PictureError(f"{target}: the folder {target.absolute().parent} does not exist")


def draw(source: Path, prediction: Mapping[str, Any], target: Path) -> None:
    """Write the image with what was found in it, in the JSON shape of the service contract. Raises PictureError."""
    check_target(target)
    try:
        picture = render(_open(source), prediction)
        picture.save(target, _SUFFIXES[target.suffix.lower()])
    except OSError as error:
        raise PictureError(f"{target} cannot be written: {error.strerror or error}") from error


def render(image: Image.Image, prediction: Mapping[str, Any]) -> Image.Image:
    """A new picture with the detections, or the class probabilities, of an image."""
    scale = max(1.0, SMALLEST / max(image.size))
    size = round(image.width * scale), round(image.height * scale)
    picture = image if scale == 1.0 else image.resize(size, Image.Resampling.BICUBIC)
    if prediction["task"] == "Classification":
        return _with_caption(picture, prediction["classes"][:TOP])
    return _with_boxes(picture, prediction["detections"], scale)


def colour(class_id: int) -> Colour:
    """The colour of a class, the same in every picture."""
    if class_id < len(_OKABE_ITO):
        return _OKABE_ITO[class_id]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_ANGLE % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _open(source: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the model has accepted it
        with Image.open(source) as image:
            # The server turns images as their EXIF data says, so boxes are in pixels of the turned image.
            return ImageOps.exif_transpose(image).convert("RGB")


def _with_boxes(image: Image.Image, detections: list[Mapping[str, Any]], scale: float) -> Image.Image:
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size)
    width = max(2, round(unit / 400))
    font = _font(max(13, round(unit / 56)))
    # The best detections are drawn last, on top of the others.
    for found in reversed(detections):
        box = _scaled(found["box"], scale)
        _outline(pen, box, width, colour(found["classId"]))
    placed: list[Box] = []
    for found in detections:
        text = f"{_shortened(found['label'], font, picture.width * 0.5)} {found['score']:.2f}"
        area = _place(pen.textbbox((0, 0), text, font), _scaled(found["box"], scale), picture.size, placed)
        placed.append(area)
        _label(pen, area, text, font, colour(found["classId"]))
    return picture


def _outline(pen: ImageDraw.ImageDraw, box: Box, width: int, fill: Colour) -> None:
    """A coloured frame between two dark ones, so that it shows on any background."""
    x1, y1, x2, y2 = box
    for grow, lines, shade in ((1, width + 2, (0, 0, 0)), (0, width, fill)):
        left, top, right, bottom = x1 - grow, y1 - grow, x2 + grow, y2 + grow
        if right > left and bottom > top:
            pen.rectangle((left, top, right, bottom), outline=shade, width=lines)


def _place(text: Box, box: Box, size: tuple[int, int], placed: list[Box]) -> Box:
    """Where a label goes: above the box, below it, or inside; the first place that is free, else above."""
    width, height = text[2] - text[0] + 8, text[3] - text[1] + 8
    x1, y1, x2, y2 = box
    corners = [(x1, y1 - height), (x1, y2), (x1, y1), (x1, y2 - height), (x2 - width, y1 - height), (x2 - width, y2)]
    areas = []
    for x, y in corners:
        left = min(max(x, 0), max(size[0] - width, 0))
        top = min(max(y, 0), max(size[1] - height, 0))
        areas.append((left, top, left + width, top + height))
    return next((area for area in areas if not any(_overlap(area, other) for other in placed)), areas[0])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _label(pen: ImageDraw.ImageDraw, area: Box, text: str, font: ImageFont.FreeTypeFont, fill: Colour) -> None:
    pen.rectangle(area, fill=fill, outline=(0, 0, 0))
    red, green, blue = fill
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    _, top, _, _ = pen.textbbox((0, 0), text, font)
    pen.text((area[0] + 4, area[1] + 4 - top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)


def _with_caption(image: Image.Image, classes: list[Mapping[str, Any]]) -> Image.Image:
    width = max(image.width, SMALLEST)
    size = max(15, round(width / 34))
    font, row = _font(size), round(size * 1.9)
    picture = Image.new("RGB", (width, image.height + row * len(classes) + size), _BACKGROUND)
    picture.paste(image, ((width - image.width) // 2, 0))
    pen = ImageDraw.Draw(picture)
    labels = [_shortened(found["label"], font, width * 0.45) for found in classes]
    start = 2 * size + max((font.getlength(label) for label in labels), default=0)
    end = width - font.getlength("100.0%") - 2 * size
    for index, (found, label) in enumerate(zip(classes, labels, strict=True)):
        top = image.height + size * 0.6 + index * row
        middle = top + row / 2
        pen.text((size, middle), label, fill=_TEXT, font=font, anchor="lm")
        bar = (start, middle - size * 0.4, end, middle + size * 0.4)
        pen.rectangle(bar, fill=_DIM)
        filled = start + (end - start) * found["probability"]
        pen.rectangle((start, bar[1], max(filled, start + 1), bar[3]), fill=colour(found["classId"]))
        pen.text((width - size, middle), f"{found['probability']:.1%}", fill=_TEXT, font=font, anchor="rm")
    return picture


def _scaled(box: list[float], scale: float) -> Box:
    x1, y1, x2, y2 = (value * scale for value in box)
    return x1, y1, x2, y2


def _font(size: int) -> ImageFont.FreeTypeFont:
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise PictureError("Pillow was built without FreeType, so labels cannot be written; install Pillow's wheel")
    return font


def _writable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """What the font can write of a text: Pillow's own one knows ASCII only, and shows boxes for all else."""
    text = shown(text)
    if font.getname()[0] != _OWN_FONT:
        return text
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(c if c.isascii() else "?" for c in plain if not unicodedata.combining(c))


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """As much of a text as fits into ``width`` pixels."""
    text = _writable(text, font)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
