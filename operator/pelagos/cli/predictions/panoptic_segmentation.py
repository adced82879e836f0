"""Answers of models that label pixels and objects: segments, and how much of the image each has."""

from __future__ import annotations

from PIL import Image
from rich.table import Table
from rich.text import Text

from pelagos.cli.drawing import Colour, colour
from pelagos.cli.predictions import semantic_segmentation as semantic
from pelagos.cli.predictions.strategy import Answer, Strategy, empty_table
from pelagos_contract.tasks import Task

_SHADES = 4
"""Kinds of light in which objects of one class are shown, so that those that touch are told apart."""


class PanopticSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.PANOPTIC_SEGMENTATION

    def summary(self, answer: Answer) -> str:
        """How many, and whether there are more."""
        count = len(answer["segments"])
        things = sum(row["isThing"] for row in answer["segments"])
        more = " (the best; there are more: raise spec.maxDetections)" if answer.get("cut") else ""
        return f"{count} segment{'' if count == 1 else 's'}, {things} of objects{more}"

    def table(self, answer: Answer) -> Table:
        """Each with its part of the image, and what is of no segment."""
        found = empty_table("class", "kind", "score", "share", "area [px]")
        for row in answer["segments"]:
            kind = "object" if row["isThing"] else "extent"
            found.add_row(Text(row["label"]), kind, f"{row['score']:.3f}", f"{row['share']:.1%}", str(row["area"]))
        found.add_row(Text("(no segment)", style="dim"), "", "", *semantic.left(answer))
        return found

    def drawn(self, image: Image.Image, answer: Answer, scale: float) -> Image.Image:
        """With colours of their classes over it, objects in lighter and darker ones, and which class each is."""
        picture = semantic.coloured(image, answer["segments"], scale, _shade)
        rows: dict[int, tuple[Answer, int, float]] = {}
        for row in answer["segments"]:
            _, count, share = rows.get(row["classId"], (row, 0, 0.0))
            rows[row["classId"]] = row, count + 1, share + row["share"]
        told = [
            (row, f"{count}, {share:.1%}" if row["isThing"] else f"{share:.1%}") for row, count, share in rows.values()
        ]
        return semantic.with_legend(picture, told)


def _shade(row: Answer) -> Colour:
    red, green, blue = colour(row["classId"])
    light = 1 - 0.15 * (row["id"] % _SHADES) if row["isThing"] else 1
    return round(red * light), round(green * light), round(blue * light)


STRATEGY = PanopticSegmentation()
