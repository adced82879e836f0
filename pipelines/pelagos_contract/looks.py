"""What images look like, as preparations note it in a store (preparation.looks and measures), for those who choose by it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

FILE = "inspections.json"
"""In a store: what is known of images by their content."""
LARGEST = 512 * 2**20
SIDE = 10
"""A look is of 10 x 10 waves, each a whole number of 8 bits with a sign; as a vector it has the same length always."""


class Seen(NamedTuple):
    """An image: its look, None where nothing stands out on it, and six figures.

    The figures are ln(1 + variance of the Laplacian), mean and standard deviation of its grey levels, ln(1 + per cent of its
    pixels that are black or white), ln(width x height) and ln(width / height).
    """

    look: bytes | None
    figures: tuple[float, ...]


def read(content: bytes) -> dict[str, Seen]:
    """What FILE says of the images that can be used, by the sha256 of their files. Raises ValueError for another file."""
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
