"""Computes what an image looks like, as 100 numbers that change little when it is re-encoded, resized, cut, mirrored or turned.

Called by inspection.py in a sandboxed child, with the pixels; alike.py compares looks. A look is the lowest cosine waves, in both
directions, of a window around what stands out from the background. Cutting off an image's edge moves the content within the
image, but hardly within that window. Mirroring changes signs of a look, and turning also transposes it, so that one look serves
for all eight orientations. All arithmetic is exact, so that every machine finds the same look, and with it the same version.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

KEPT = 10
"""A look has 10 x 10 waves, of which the first, the mean brightness, is always 0."""
LENGTH = 127
"""The length of a look as a vector; its numbers are 8-bit integers."""
_SIDE = 32
LARGEST = 128
"""Pixels to which an image's shorter side is subsampled; it may keep up to twice as many."""
_REACH = 2.5
"""Half a side of the window, in standard deviations of what stands out."""
_GRAIN = 64
"""The window lies on a grid of 64ths of a pixel, so that sums over its cells are exact."""
_LEAST_CONTRAST = 64
"""Contrast of the window's cells in 16ths of a grey level: below it an image is plain, and noise would decide its look."""
_EXACT = 512
"""The side, in pixels, of parts whose moments with 16-bit weights are exact in 64-bit floats."""
_ENDS: Any = np.arange(_SIDE + 1, dtype=np.int64)
_WAVE = 4096
_COARSER = 1 << 26
"""The divisor of spectra after which the sums of their squares are exact."""
_EMPHASIS = 0.65
"""The exponent that amplifies fine waves: they are weaker than coarse ones, and distinguish organisms."""


@dataclass(frozen=True, slots=True)
class _Window:
    """The window of an image: left, top and the side of a cell, in grains."""

    number: int
    grey: npt.NDArray[np.uint8]
    background: int
    left: int
    top: int
    cell: int


def look(whole: npt.NDArray[np.uint8]) -> bytes | None:
    """The look of an image [height, width] of grey levels; None for a plain one. Constants were chosen with bench/alike.py."""
    return of([whole])[0]


def of(images: Iterable[Any]) -> list[bytes | None]:
    """The looks of several images, which takes little longer than for one: windows are processed together."""
    found: list[bytes | None] = []
    windows: list[_Window] = []
    for number, whole in enumerate(images):
        found.append(None)
        step = max(1, min(whole.shape) // LARGEST)
        grey = np.ascontiguousarray(whole[::step, ::step])
        edge = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
        middle = np.cumsum(np.bincount(edge, minlength=256)).searchsorted(len(edge) // 2, "right")
        window = _window(grey, int(middle))
        if window is not None:
            windows.append(_Window(number, grey, int(middle), *window))
    if not windows:
        return found
    cells = _cells(windows)
    waves, emphasis = _waves()
    spectra = ((waves @ cells @ waves.T * emphasis) // _COARSER).astype(np.int64).reshape(len(windows), -1)
    seen = cells.max(axis=(1, 2)) - cells.min(axis=(1, 2)) >= _LEAST_CONTRAST
    for one, spectrum, is_seen in zip(windows, spectra, seen.tolist(), strict=True):
        length = math.sqrt(int(np.dot(spectrum, spectrum)))
        if is_seen and length > 0:
            found[one.number] = np.rint(spectrum / length * LENGTH).astype(np.int8).tobytes()
    return found


def _window(grey: npt.NDArray[np.uint8], background: int) -> tuple[int, int, int] | None:
    """Left, top and cell side, in grains, of the square window around what stands out; None when nothing does."""
    total, *moments = _moments(cv2.LUT(grey, _squares(background)))
    if total == 0:
        return None
    centres, spread = [], 0.0
    for once, twice in moments:
        # Moments of twice the centres of pixels, which are whole numbers.
        first, second = 2 * once + total, 4 * (twice + once) + total
        centres.append(first / total / 2)
        spread += (second * total - first * first) / (total * total) / 4
    cell = max(1, round(2 * _REACH * math.sqrt(spread / 2) * _GRAIN / _SIDE))
    left, top = (round(centre * _GRAIN) - cell * _SIDE // 2 for centre in centres)
    return left, top, cell


@cache
def _squares(background: int) -> npt.NDArray[np.uint16]:
    """A table by grey level of the squared distance from the background."""
    return np.square(np.arange(256) - background).astype(np.uint16)


def _moments(weights: npt.NDArray[Any]) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """The sum of all weights, and their first and second moments, across and down."""
    total = across = across2 = down = down2 = 0
    for top, left in itertools.product(*(range(0, side, _EXACT) for side in weights.shape)):
        part = cv2.moments(weights[top : top + _EXACT, left : left + _EXACT])
        found, x, x2, y, y2 = (int(part[name]) for name in ("m00", "m10", "m20", "m01", "m02"))
        total += found
        across, across2 = across + x + left * found, across2 + x2 + 2 * left * x + left * left * found
        down, down2 = down + y + top * found, down2 + y2 + 2 * top * y + top * top * found
    return total, (across, across2), (down, down2)


def _cells(windows: Sequence[_Window]) -> npt.NDArray[np.float64]:
    """How much brighter each cell is than the background, in 16ths, [windows, 32, 32]. Outside of the image is background."""
    limits = np.array([window.grey.shape for window in windows])[..., None]
    starts = np.array([(window.top, window.left) for window in windows])[..., None]
    sides, backgrounds = (
        np.array([getattr(window, name) for window in windows])[:, None, None] for name in ("cell", "background")
    )
    # Where cells begin and end, down and across, in grains, limited to the image.
    places = np.minimum(np.maximum(starts + sides * _ENDS, 0), limits * _GRAIN)
    whole, share = places // _GRAIN, places % _GRAIN
    both, rest = np.concatenate((whole, np.minimum(whole + 1, limits)), axis=2), _GRAIN - share
    # Whole numbers that 64-bit floats hold exactly, as they do everything computed from them.
    corners = np.stack(
        [
            cv2.integral(window.grey, sdepth=cv2.CV_64F).take(rows, 0).take(columns, 1)
            for window, (rows, columns) in zip(windows, both, strict=True)
        ]
    )
    many = len(_ENDS)
    edges = corners[:, :many] * rest[:, 0, :, None] + corners[:, many:] * share[:, 0, :, None]
    bands = edges[:, 1:] - edges[:, :-1]
    edges = bands[..., :many] * rest[:, 1, None] + bands[..., many:] * share[:, 1, None]
    brightness = edges[..., 1:] - edges[..., :-1]
    high, wide = (places[:, side, 1:] - places[:, side, :-1] for side in (0, 1))
    found: npt.NDArray[np.float64] = np.floor(
        (brightness - backgrounds * high[..., None] * wide[:, None]) * 16 / (sides * sides)
    )
    return found


@cache
def _waves() -> tuple[Any, Any]:
    """The lowest cosine waves over the cells, and the weights of a look's waves: whole numbers, so that sums stay exact."""
    angles = np.pi * np.outer(np.arange(KEPT), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)
    waves = np.cos(angles) * _WAVE
    waves[0] /= math.sqrt(2)
    squares: Any = np.arange(KEPT) ** 2
    emphasis = np.rint((1 + squares[:, None] + squares[None]) ** _EMPHASIS * 16)
    emphasis[0, 0] = 0
    return np.rint(waves), emphasis
