"""Draws predictions of panoptic segmentation: segments, and the share of the image that each class covers."""

from __future__ import annotations

from PIL import Image

from pelagos_contract.answers import semantic_segmentation as semantic
from pelagos_contract.answers.drawing import Answer, Colour, colour

_SHADES = 4
"""Number of brightness levels for objects of one class, so that touching objects can be distinguished."""


def drawn(image: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """The image with segments in the colours of their classes, objects in varying brightness, and a legend."""
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
