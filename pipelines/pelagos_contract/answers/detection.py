"""Draws predictions of detectors: boxes with classes and scores, the best on top."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from pelagos_contract.answers.drawing import Answer, Box, Colour, colour, font, shortened


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """A copy of the image with a frame and a label for each detection."""
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size)
    width = max(2, round(unit / 400))
    face = font(max(13, round(unit / 56)))
    # The best detections are drawn last, on top of the others.
    for found in reversed(answer["detections"]):
        box = scaled(found["box"], scale)
        _outline(pen, box, width, colour(found["classId"]))
    placed: list[Box] = []
    for found in answer["detections"]:
        text = f"{shortened(found['label'], face, picture.width * 0.5)} {found['score']:.2f}"
        area = place(pen.textbbox((0, 0), text, face), scaled(found["box"], scale), picture.size, placed)
        placed.append(area)
        label(pen, area, text, face, colour(found["classId"]))
    return picture


def _outline(pen: ImageDraw.ImageDraw, box: Box, width: int, fill: Colour) -> None:
    """Draw a coloured frame between two dark ones, so that it is visible on any background."""
    x1, y1, x2, y2 = box
    for grow, lines, shade in ((1, width + 2, (0, 0, 0)), (0, width, fill)):
        left, top, right, bottom = x1 - grow, y1 - grow, x2 + grow, y2 + grow
        if right > left and bottom > top:
            pen.rectangle((left, top, right, bottom), outline=shade, width=lines)


def place(text: Box, box: Box, size: tuple[int, int], placed: list[Box]) -> Box:
    """The place of a label above, below or inside its box: the first one that is free, else above."""
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


def label(pen: ImageDraw.ImageDraw, area: Box, text: str, face: ImageFont.FreeTypeFont, fill: Colour) -> None:
    """Write a text on a coloured background."""
    pen.rectangle(area, fill=fill, outline=(0, 0, 0))
    red, green, blue = fill
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    _, top, _, _ = pen.textbbox((0, 0), text, face)
    pen.text((area[0] + 4, area[1] + 4 - top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=face)


def scaled(box: list[float], scale: float) -> Box:
    """A box scaled to an enlarged image."""
    x1, y1, x2, y2 = (value * scale for value in box)
    return x1, y1, x2, y2
