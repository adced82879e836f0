"""What an image looks like, in 100 numbers that change little when it is saved again, resized, cut, mirrored or turned.

Called by inspection.py in a child of the sandbox, with the pixels; alike.py compares looks. A look is the lowest waves, in both
directions, of a window on what stands out from the background: cutting the edge off an image moves its content on the image, but
hardly within that window. Mirroring changes signs of a look and turning it transposes it, too, so that one look serves for all
eight ways to lay an image. In whole numbers or exact arithmetic throughout, so that every machine finds the same look and with it
the same version.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np

KEPT = 10
"""A look is of 10 x 10 waves, of which the first, the mean brightness, is left out."""
LENGTH = 127
"""Of a look, as a vector: its numbers are whole ones of 8 bits."""
_SIDE = 32
LARGEST = 128
"""Pixels of the shorter side, at most twice as many, that are looked at."""
_REACH = 2.5
"""Half a side of the window, in standard deviations of what stands out."""
_GRAIN = 64
"""The window lies on 64ths of a pixel: sums over its cells are exact."""
_LEAST_CONTRAST = 64
"""In 16ths of a grey level, of the window's cells: below it an image is plain, and noise would decide its look."""
_MOST_IN_32_BITS = (1 << 31) // 256
"""Pixels."""
_WAVE = 4096
_COARSER = 1 << 26
"""So much less fine are numbers whose squares add up exactly."""
_EMPHASIS = 0.65
"""Fine waves are weaker than coarse ones, and tell organisms apart."""


def look(whole: Any) -> bytes | None:
    """The look of an image [height, width] of grey levels; None for a plain one. Found by measuring: see bench/alike.py."""
    step = max(1, min(whole.shape) // LARGEST)
    grey = np.ascontiguousarray(whole[::step, ::step])
    edge = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
    background = int(
        np.searchsorted(np.cumsum(np.bincount(edge, minlength=256)), len(edge) // 2, "right")
    )  # the median
    window = _window(grey, background)
    if window is None:
        return None
    cells = _cells(grey, background, *window)
    if cells.max() - cells.min() < _LEAST_CONTRAST:
        return None
    waves, emphasis = _waves()
    spectrum = ((waves @ cells @ waves.T * emphasis) // _COARSER).astype(np.int64).ravel()
    length = math.sqrt(int(np.dot(spectrum, spectrum)))
    if length == 0:
        return None
    return bytes(np.rint(spectrum / length * LENGTH).astype(np.int8))


def _window(grey: Any, background: int) -> tuple[int, int, int] | None:
    """Left, top and the side of a cell, in grains, of the square window around what stands out; None when nothing does."""
    weights = cv2.LUT(grey, _squares(background))
    along = [weights.sum(axis, dtype=np.int64) for axis in (0, 1)]
    total = int(along[0].sum())
    if total == 0:
        return None
    centres, spread = [], 0.0
    for sums in along:
        first, second = (int(np.dot(sums, powers)) for powers in _places(len(sums)))
        centres.append(first / total / 2)
        spread += (second * total - first * first) / (total * total) / 4
    cell = max(1, round(2 * _REACH * math.sqrt(spread / 2) * _GRAIN / _SIDE))
    left, top = (round(centre * _GRAIN) - cell * _SIDE // 2 for centre in centres)
    return left, top, cell


@cache
def _squares(background: int) -> Any:
    """By grey level, the square of its distance from the background."""
    return np.square(np.arange(256) - background).astype(np.uint16)


@lru_cache(maxsize=512)
def _places(length: int) -> tuple[Any, Any]:
    """Twice the middles of pixels, and their squares."""
    places: Any = 2 * np.arange(length, dtype=np.int64) + 1
    return places, places**2


def _cells(grey: Any, background: int, left: int, top: int, cell: int) -> Any:
    """By how much each cell of the window is brighter than the background, in 16ths [32, 32]; outside is background."""
    height, width = grey.shape
    # In as few bytes as hold the sum of all exactly: most of the time goes into memory.
    sums = cv2.integral(grey, sdepth=cv2.CV_32S if grey.size < _MOST_IN_32_BITS else cv2.CV_64F)
    (rows, row_share), (columns, column_share) = _edges(top, cell, height), _edges(left, cell, width)
    bands = sums[rows] * (_GRAIN - row_share)[:, None] + sums[np.minimum(rows + 1, height)] * row_share[:, None]
    corners = bands[:, columns] * (_GRAIN - column_share) + bands[:, np.minimum(columns + 1, width)] * column_share
    brightness = np.diff(np.diff(corners, axis=0), axis=1)
    covered = np.outer(np.diff(rows * _GRAIN + row_share), np.diff(columns * _GRAIN + column_share))
    return np.floor((brightness - background * covered) * 16 / (cell * cell))


def _edges(start: int, cell: int, side: int) -> tuple[Any, Any]:
    """Where cells begin and end: whole pixels, and grains beyond; no place is outside of the image."""
    places = np.clip(start + cell * np.arange(_SIDE + 1, dtype=np.int64), 0, side * _GRAIN)
    return places // _GRAIN, places % _GRAIN


@cache
def _waves() -> tuple[Any, Any]:
    """The lowest cosines over the cells, and the weights of the waves of a look: whole numbers, whose sums stay exact."""
    angles = np.pi * np.outer(np.arange(KEPT), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)
    waves = np.cos(angles) * _WAVE
    waves[0] /= math.sqrt(2)
    squares: Any = np.arange(KEPT) ** 2
    emphasis = np.rint((1 + squares[:, None] + squares[None]) ** _EMPHASIS * 16)
    emphasis[0, 0] = 0
    return np.rint(waves), emphasis
