"""Masks as Label Studio's brush has them, written: for versions that become its projects, and suggestions that are sent there.

A run-length code of the image's bytes of red, green, blue and alpha, in bits: 32 bits say how many bytes there are, 5 how many
bits one has, and four times 4 how many bits the lengths of runs have, each less 1. Then come runs: a bit that says whether one
value is repeated, 2 that choose among the four sizes, the length less 1, and the value or values. Alpha says what is painted.
Source: the npm package ``rle-pack``, which Label Studio uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

CHANNELS = 4
SIZES = (3, 4, 8, 16)
PAINTED = 255


def encoded(painted: Any) -> list[int]:
    """The code of a mask: bool ``[height, width]``, the whole image."""
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
