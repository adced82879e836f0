"""Measures sharpness, brightness and contrast of an image, in the sandboxed child that has decoded it.

Called by inspection.py; measures.py applies thresholds. All sums are of whole numbers, so that every machine finds the same
values, and drops the same images.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_BAND = 1 << 16
"""About how many pixels the Laplacian is computed of at a time: they stay in the processor's cache."""
_MOST = 1 << 20
"""About how many pixels of an image are used for its sharpness. Of larger images, bands are spread over the whole height."""
_BLACK, _WHITE = 2, 253
"""The lowest and the highest grey level that is neither black nor white; compression changes these by a little."""


def measure(grey: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Sums over an image [height, width] of grey levels, from which `measures.believed` computes means and variances.

    ``edges`` and ``edges2`` are the sums of its Laplacian and of the Laplacian's squares over ``among`` pixels.
    """
    inside = cv2.countNonZero(cv2.inRange(grey, _BLACK, _WHITE))
    return {"grey": _sum(grey), "grey2": _squares(grey), "clipped": grey.size - inside} | _edges(grey)


class Measuring:
    """Like `measure`, for an image that arrives a few rows at a time."""

    def __init__(self, width: int, height: int) -> None:
        """Start measuring an image of ``width`` x ``height`` pixels."""
        rows, step = _spread(width, height)
        self._bands = [(start, min(start + rows, height)) for start in range(0, height, step)]
        self._width, self._height = width, height
        self._sums = Counter[str]()
        self._held: list[Any] = []
        self._row = self._first = 0

    def add(self, grey: npt.NDArray[np.uint8]) -> None:
        """Add the next rows of grey levels."""
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
        """The sums that `measure` returns, once all rows were added."""
        return {"edges": 0, **self._sums}

    def _laplacian(self, rows: npt.NDArray[np.uint8], above: int, count: int) -> None:
        band = cv2.Laplacian(rows, cv2.CV_16S)[above : above + count]
        self._sums.update(edges=_sum(band), edges2=_squares(band), among=count * self._width)

    def _forget(self, held: npt.NDArray[np.uint8]) -> None:
        """Drop rows that are no longer needed: only those from the row above the next band on are kept."""
        first = self._row - len(held)
        start = max((self._bands[0][0] - 1 if self._bands else self._row) - first, 0)
        self._held, self._first = [held[start:].copy()], first + min(start, len(held))


def channels(image: npt.NDArray[np.uint8]) -> dict[str, list[int]]:
    """The sums of an image's levels [height, width, 3] and of their squares, by channel."""
    parts = [cv2.extractChannel(image, channel) for channel in range(3)]
    return {"sums": [_sum(part) for part in parts], "squares": [_squares(part) for part in parts]}


def _edges(grey: Any) -> dict[str, int]:
    height, width = grey.shape
    rows, step = _spread(width, height)
    total = squares = among = 0
    for start in range(0, height, step):
        end = min(start + rows, height)
        above = min(start, 1)
        # With the adjacent rows, because the end of a band would otherwise count as an edge.
        band = cv2.Laplacian(grey[start - above : end + 1], cv2.CV_16S)[above : above + end - start]
        total += _sum(band)
        squares += _squares(band)
        among += (end - start) * width
    return {"edges": total, "edges2": squares, "among": among}


def _spread(width: int, height: int) -> tuple[int, int]:
    """The rows of a band for the Laplacian, and the distance between the first rows of two bands."""
    rows = max(_BAND // width, 32)
    return rows, rows * max(1, width * height // _MOST)


def _sum(values: npt.NDArray[Any]) -> int:
    return int(cv2.sumElems(values)[0])


def _squares(values: npt.NDArray[Any]) -> int:
    """The sum of squares. OpenCV may take its root and square it again; that error is far below 1, and is rounded off."""
    total: float = cv2.norm(values, cv2.NORM_L2SQR)
    return round(total)
