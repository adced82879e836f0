"""Draws predictions of classifiers: the most probable classes with their probabilities, below the image."""

from __future__ import annotations

from PIL import Image, ImageDraw

from pelagos_contract.answers.drawing import SMALLEST, Answer, Colour, colour, font, shortened

TOP = 5
_BACKGROUND: Colour = (24, 26, 30)
_TEXT: Colour = (240, 240, 240)
_DIM: Colour = (90, 94, 102)


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """The image with a caption below it that lists the most probable classes."""
    classes = answer["classes"][:TOP]
    width = max(image.width, SMALLEST)
    size = max(15, round(width / 34))
    face, row = font(size), round(size * 1.9)
    picture = Image.new("RGB", (width, image.height + row * len(classes) + size), _BACKGROUND)
    picture.paste(image, ((width - image.width) // 2, 0))
    pen = ImageDraw.Draw(picture)
    labels = [shortened(found["label"], face, width * 0.45) for found in classes]
    start = 2 * size + max((face.getlength(label) for label in labels), default=0)
    end = width - face.getlength("100.0%") - 2 * size
    for index, (found, label) in enumerate(zip(classes, labels, strict=True)):
        top = image.height + size * 0.6 + index * row
        middle = top + row / 2
        pen.text((size, middle), label, fill=_TEXT, font=face, anchor="lm")
        bar = (start, middle - size * 0.4, end, middle + size * 0.4)
        pen.rectangle(bar, fill=_DIM)
        filled = start + (end - start) * found["probability"]
        pen.rectangle((start, bar[1], max(filled, start + 1), bar[3]), fill=colour(found["classId"]))
        pen.text((width - size, middle), f"{found['probability']:.1%}", fill=_TEXT, font=face, anchor="rm")
    return picture
