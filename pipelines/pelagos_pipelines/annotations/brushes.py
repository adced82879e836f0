"""Reads and writes masks of Label Studio's brush as shapes; see pelagos_contract.brushes for their encoding."""

from __future__ import annotations

from typing import Any

from pelagos_contract import brushes
from pelagos_contract.brushes import CHANNELS
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.shapes import Shape


class _Bits:
    """Reads numbers of any bit length from bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.place = 0

    def take(self, size: int) -> int:
        """The next number of ``size`` bits. Raises ValueError at the end."""
        end = self.place + size
        if end > 8 * len(self._content):
            raise ValueError("a mask ends before all its pixels are read")
        last = (end + 7) // 8
        number = int.from_bytes(self._content[self.place // 8 : last], "big") >> (8 * last - end)
        self.place = end
        return number & ((1 << size) - 1)

    def skip_to(self, size: int, count: int, first: int, step: int) -> list[int]:
        """Read ``count`` numbers of ``size`` bits; returns every ``step``-th of them, starting at index ``first``."""
        start, end = self.place, self.place + size * count
        if end > 8 * len(self._content):
            raise ValueError("a mask ends before all its pixels are read")
        found = []
        for number in range(first, count, step):
            self.place = start + number * size
            found.append(self.take(size))
        self.place = end
        return found


def decoded(label: str, code: object, size: tuple[int, int], **rest: Any) -> Shape:
    """The mask of the painted pixels on an image of ``size`` (width, height).

    Raises ValueError when the code is invalid or of an image of another size.
    """
    import numpy as np

    width, height = size
    if not isinstance(code, list) or len(code) > masks.MAX_ENCODED or width * height > masks.MAX_PIXELS:
        raise ValueError("a mask has more pixels than any camera has, or no code")
    bits = _Bits(bytes(code))
    count, word = bits.take(32), bits.take(5) + 1
    sizes = [bits.take(4) + 1 for _ in range(CHANNELS)]
    if count != CHANNELS * width * height:
        raise ValueError(f"a mask has {count // CHANNELS} pixels, but {width} x {height} are {width * height}")
    painted: Any = np.zeros(width * height, bool)
    place = 0
    while place < count:
        is_repeated = bits.take(1)
        end = place + 1 + bits.take(sizes[bits.take(2)])
        if end > count:
            raise ValueError("a mask has more pixels than its image")
        # Every fourth byte from place to end is alpha.
        pixels = slice(place // CHANNELS, end // CHANNELS)
        if is_repeated:
            painted[pixels] = bits.take(word) > 0
        else:
            alpha = bits.skip_to(word, end - place, CHANNELS - 1 - place % CHANNELS, CHANNELS)
            painted[pixels] = [value > 0 for value in alpha]
        place = end
    return masks.of_array(label, painted.reshape(height, width), **rest)


def encoded(shape: Shape, size: tuple[int, int]) -> list[int]:
    """The code of a mask on an image of ``size`` (width, height)."""
    return brushes.encoded(masks.on_image(shape, *size))
