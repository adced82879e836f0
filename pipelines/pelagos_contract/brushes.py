"""Writes masks in the format of Label Studio's brush, for exported versions and for suggestions.

It is a bit-packed run-length code of the image's bytes of red, green, blue and alpha. The header has the number of bytes in 32
bits, the word size less 1 in 5 bits, and four sizes of run lengths, each less 1, in 4 bits. Each run has a bit that says whether
one value is repeated, 2 bits that select one of the four sizes, the length less 1, and the value or values. Alpha marks painted
pixels. Source: the npm package ``rle-pack``, which Label Studio uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHANNELS = 4
SIZES = (3, 4, 8, 16)
PAINTED = 255


def encoded(painted: npt.NDArray[np.bool_]) -> list[int]:
    """The code of a mask of the whole image, bool ``[height, width]``."""
    import numpy as np

    pixels: Any = np.ravel(painted)
    ends: Any = np.flatnonzero(np.diff(pixels)) + 1
    starts = [0, *ends.tolist(), len(pixels)]
    parts = [f"{CHANNELS * len(pixels):032b}", f"{7:05b}", *(f"{bits - 1:04b}" for bits in SIZES)]
    for start, end in pairwise(starts):
        parts += _runs(CHANNELS * (end - start), PAINTED if pixels[start] else 0)
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _runs(length: int, value: int) -> Iterator[str]:
    while length:
        number = next((number for number, size in enumerate(SIZES) if length <= 1 << size), len(SIZES) - 1)
        part = min(length, 1 << SIZES[number])
        yield f"1{number:02b}{part - 1:0{SIZES[number]}b}{value:08b}"
        length -= part
