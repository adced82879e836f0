"""The layout of tiles of a large image, the same for the preparation of a Dataset and for inference on tiles.

Source: slicing aided inference, Akyon, Altinuc and Temizel, Slicing aided hyper inference and fine-tuning for small object
detection, ICIP 2022, doi:10.1109/ICIP46576.2022.9897990. Depends on the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The rectangle of a tile in an upright image, in pixels."""

    x: int
    y: int
    width: int
    height: int


def starts(length: int, size: int, overlap: int) -> list[int]:
    """The starts of tiles of ``size`` along a side of ``length`` pixels. The last one ends with the side, so all have one size.

    Raises:
        ValueError: ``overlap`` is more than half of ``size``.
    """
    if not 0 <= 2 * overlap <= size:
        raise ValueError(f"an overlap of {overlap} is more than half of {size}")
    found = [0]
    while found[-1] + size < length:
        found.append(min(found[-1] + size - overlap, length - size))
    return found


def places(width: int, height: int, size: int, overlap: int) -> list[Place]:
    """The tiles of an image, row by row; an image that fits into a tile is one tile."""
    across, down = min(size, width), min(size, height)
    return [Place(x, y, across, down) for y in starts(height, size, overlap) for x in starts(width, size, overlap)]
