"""Where the tiles of a large image lie: the same for whoever cuts images of a Dataset, and whoever asks a model of its tiles.

As in slicing aided inference: Akyon, Altinuc and Temizel, Slicing aided hyper inference and fine-tuning for small object
detection, ICIP 2022, doi:10.1109/ICIP46576.2022.9897990. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A tile's part of an upright image, in pixels."""

    x: int
    y: int
    width: int
    height: int


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles of ``size`` begin along a side of ``length`` pixels. The last one ends with the side: all are of one size.

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
    """The tiles of an image, row by row; of one that fits in a tile, all of it."""
    across, down = min(size, width), min(size, height)
    return [Place(x, y, across, down) for y in starts(height, size, overlap) for x in starts(width, size, overlap)]
