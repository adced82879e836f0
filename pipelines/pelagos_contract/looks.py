"""What images look like, as preparations note it in the store of a Dataset (preparation.looks); for who chooses images by it."""

from __future__ import annotations

import json

FILE = "inspections.json"
"""In a store: what is known of images by their content."""
LARGEST = 512 * 2**20
SIDE = 10
"""A look is of 10 x 10 waves, each a whole number of 8 bits with a sign; as a vector it has the same length always."""


def read(content: bytes) -> dict[str, bytes]:
    """The looks in FILE by the sha256 of the images' files. Plain images have none. Raises ValueError for another file."""
    try:
        rows = json.loads(content)["inspections"]
        looks = {str(row[0]): bytes.fromhex(row[5]) for row in rows if row[5] is not None}
    except (KeyError, IndexError, TypeError, RecursionError) as error:
        raise ValueError(f"{FILE} is not what a preparation wrote") from error
    return {digest: look for digest, look in looks.items() if len(look) == SIDE * SIDE}
