"""Draws predictions of oriented detection: turned boxes, the best on top."""

from __future__ import annotations

from PIL import Image, ImageDraw

from pelagos_contract.answers.detection import label, place
from pelagos_contract.answers.drawing import Answer, Box, colour, font, shortened


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """A copy of the image with a turned frame and a label for each detection."""
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size)
    width = max(2, round(unit / 400))
    face = font(max(13, round(unit / 56)))
    # The best detections are drawn last, on top of the others.
    for found in reversed(answer["detections"]):
        points = [(x * scale, y * scale) for x, y in found["corners"]]
        # Coloured on dark, to be visible on any background. The line continues to the second corner to join the first one.
        for lines, shade in ((width + 2, (0, 0, 0)), (width, colour(found["classId"]))):
            pen.line([*points, *points[:2]], fill=shade, width=lines, joint="curve")
    placed: list[Box] = []
    for found in answer["detections"]:
        text = f"{shortened(found['label'], face, picture.width * 0.5)} {found['score']:.2f}"
        xs, ys = zip(*found["corners"], strict=True)
        around = (min(xs) * scale, min(ys) * scale, max(xs) * scale, max(ys) * scale)
        area = place(pen.textbbox((0, 0), text, face), around, picture.size, placed)
        placed.append(area)
        label(pen, area, text, face, colour(found["classId"]))
    return picture
