"""Answers of models that label pixels and objects, drawn: segments, and how much of the image those of each class have."""

from __future__ import annotations

from PIL import Image

from pelagos_contract.answers import semantic_segmentation as semantic
from pelagos_contract.answers.drawing import Answer, Colour, colour

_SHADES = 4
"""Kinds of light in which objects of one class are shown, so that those that touch are told apart."""


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """With colours of their classes over it, objects in lighter and darker ones, and which class each is."""
    picture = semantic.coloured(image, answer["segments"], scale, _shade)
    rows: dict[int, tuple[Answer, int, float]] = {}
    for row in answer["segments"]:
        _, count, share = rows.get(row["classId"], (row, 0, 0.0))
        rows[row["classId"]] = row, count + 1, share + row["share"]
    told = [(row, f"{count}, {share:.1%}" if row["isThing"] else f"{share:.1%}") for row, count, share in rows.values()]
    return semantic.with_legend(picture, told)


def _shade(row: Answer) -> Colour:
    red, green, blue = colour(row["classId"])
    light = 1 - 0.15 * (row["id"] % _SHADES) if row["isThing"] else 1
    return round(red * light), round(green * light), round(blue * light)
