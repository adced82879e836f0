"""How sharp, bright and rich in contrast an image is, in a child of the sandbox that has decoded it.

Called by inspection.py; measures.py judges by it. Sums are of whole numbers, so that every machine finds the same values, and
drops the same images.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np

_BAND = 1 << 16
"""Pixels that the Laplacian is taken of at once, about: it stays in the processor's cache."""
_MOST = 1 << 20
"""Pixels of which an image's sharpness is found, about; of larger images bands spread over the whole height."""
_BLACK, _WHITE = 2, 253
"""The grey levels that are neither black nor white, where compression has made some of these that are."""


def measure(grey: Any) -> dict[str, int]:
    """Sums over an image [height, width] of grey levels, from which `measures.believed` has means and variances.

    ``edges`` and ``edges2`` are those of its Laplacian and of the Laplacian's squares, over ``among`` pixels.
    """
    inside = cv2.countNonZero(cv2.inRange(grey, _BLACK, _WHITE))
    return {"grey": _sum(grey), "grey2": _squares(grey), "clipped": grey.size - inside} | _edges(grey)


class Measuring:
    """The same as `measure`, of an image that comes a few rows at a time."""

    def __init__(self, width: int, height: int) -> None:
        """Of an image of that size."""
        rows, step = _spread(width, height)
        self._bands = [(start, min(start + rows, height)) for start in range(0, height, step)]
        self._width, self._height = width, height
        self._sums = Counter[str]()
        self._held: list[Any] = []
        self._row = self._first = 0

    def add(self, grey: Any) -> None:
        """The next rows, of grey levels."""
        inside = cv2.countNonZero(cv2.inRange(grey, _BLACK, _WHITE))
        self._sums.update(grey=_sum(grey), grey2=_squares(grey), clipped=grey.size - inside)
        self._held.append(grey)
        self._row += len(grey)
        while self._bands and self._row >= min(self._bands[0][1] + 1, self._height):
            start, end = self._bands.pop(0)
            above = min(start, 1)
            held = np.concatenate(self._held)
            self._laplacian(held[start - above - self._first : end + 1 - self._first], above, end - start)
            self._forget(held)
        if not self._bands or self._bands[0][0] - 1 > self._row:
            self._forget(self._held[-1])

    def sums(self) -> dict[str, int]:
        """As `measure` has them, once all rows have come."""
        return {"edges": 0, **self._sums}

    def _laplacian(self, rows: Any, above: int, count: int) -> None:
        band = cv2.Laplacian(rows, cv2.CV_16S)[above : above + count]
        self._sums.update(edges=_sum(band), edges2=_squares(band), among=count * self._width)

    def _forget(self, held: Any) -> None:
        """Keep of the last rows those that the next band begins with."""
        first = self._row - len(held)
        start = max((self._bands[0][0] - 1 if self._bands else self._row) - first, 0)
        self._held, self._first = [held[start:].copy()], first + min(start, len(held))


def channels(image: Any) -> dict[str, list[int]]:
    """The sums of the levels of an image [height, width, 3] and of their squares, by channel in its order."""
    parts = [cv2.extractChannel(image, channel) for channel in range(3)]
    return {"sums": [_sum(part) for part in parts], "squares": [_squares(part) for part in parts]}


def _edges(grey: Any) -> dict[str, int]:
    height, width = grey.shape
    rows, step = _spread(width, height)
    total = squares = among = 0
    for start in range(0, height, step):
        end = min(start + rows, height)
        above = min(start, 1)
        # With the rows beside it, or it would be an edge where a band ends.
        band = cv2.Laplacian(grey[start - above : end + 1], cv2.CV_16S)[above : above + end - start]
        total += _sum(band)
        squares += _squares(band)
        among += (end - start) * width
    return {"edges": total, "edges2": squares, "among": among}


def _spread(width: int, height: int) -> tuple[int, int]:
    """Rows of a band that the Laplacian is taken of, and from the first row of one to that of the next."""
    rows = max(_BAND // width, 32)
    return rows, rows * max(1, width * height // _MOST)


def _sum(values: Any) -> int:
    return int(cv2.sumElems(values)[0])


def _squares(values: Any) -> int:
    """OpenCV may take the root of the sum and square it again; what it is off by then is far below 1."""
    total: float = cv2.norm(values, cv2.NORM_L2SQR)
    return round(total)
