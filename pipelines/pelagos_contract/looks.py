"""Reads the looks and measures of images that preparations record in a store (preparation.looks and measures)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

FILE = "inspections.json"
"""File in a store with what is known about images by the digest of their content."""
LARGEST = 512 * 2**20
SIDE = 10
"""A look has 10 x 10 coefficients, each a signed 8-bit integer."""


class Seen(NamedTuple):
    """An image: its look, None for one without structure, and six figures.

    The figures are ln(1 + variance of the Laplacian), mean and standard deviation of its grey levels, ln(1 + per cent of its
    pixels that are black or white), ln(width x height) and ln(width / height).
    """

    look: bytes | None
    figures: tuple[float, ...]


def read(content: bytes) -> dict[str, Seen]:
    """The usable images in the content of FILE, by the SHA-256 of their files. Raises ValueError for any other content."""
    try:
        rows = json.loads(content)["inspections"]
        seen = {str(row[0]): Seen(_look(row[5]), _figures(row[2], row[3], row[9])) for row in rows if row[6] is None}
    except (KeyError, IndexError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{FILE} is not what a preparation wrote") from error
    return seen


def _look(written: Any) -> bytes | None:
    look = None if written is None else bytes.fromhex(written)
    return look if look is not None and len(look) == SIDE * SIDE else None


def _figures(width: Any, height: Any, measures: Sequence[Any]) -> tuple[float, ...]:
    sharpness, brightness, contrast, clipped = map(float, measures)
    sizes = math.log(width * height), math.log(width / height)
    return math.log1p(sharpness), brightness, contrast, math.log1p(clipped), *sizes
