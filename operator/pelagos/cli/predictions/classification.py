"""Answers of classifiers: the probability of each class."""

from __future__ import annotations

from PIL import Image, ImageDraw
from rich.table import Table
from rich.text import Text

from pelagos.cli.drawing import SMALLEST, Colour, colour, font, shortened
from pelagos.cli.predictions.strategy import Answer, Strategy, empty_table
from pelagos_contract.tasks import Task

TOP = 5
_BAR = 24
_BACKGROUND: Colour = (24, 26, 30)
_TEXT: Colour = (240, 240, 240)
_DIM: Colour = (90, 94, 102)


class Classification(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.CLASSIFICATION

    def summary(self, answer: Answer) -> str:
        """Whether the most probable class is probable enough, where there is a threshold."""
        if answer.get("decided") is not False:
            return ""
        return f"undecided (no class has more than its threshold, {answer.get('threshold', 0):.2f} of the first)"

    def table(self, answer: Answer) -> Table:
        """With a bar as long as the class is probable."""
        found = empty_table("class", "probability")
        found.add_column("")
        for row in answer["classes"]:
            bar = "█" * round(row["probability"] * _BAR)
            found.add_row(Text(row["label"]), f"{row['probability']:.4f}", bar)
        return found

    def drawn(self, image: Image.Image, answer: Answer, scale: float) -> Image.Image:
        """With a caption below of the most probable classes."""
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


STRATEGY = Classification()
