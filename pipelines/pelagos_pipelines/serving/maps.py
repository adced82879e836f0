"""Maps that have a number for each pixel of an image, kept as runs and rendered as COCO masks and PNG.

Also resamples the maps of networks at the pixels of an original. Called by the strategies of tasks whose answers are maps, and by
their evaluation. It may import only numpy, OpenCV and pelagos_contract.run_lengths, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_contract import run_lengths
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Floats, Settings

NONE = 0
"""The number of pixels that belong to no class or segment."""
MOST_TOLD = 2 * 2**20
"""The most characters of masks in a rendered answer; the map has them all. A package's known answer has at most 4 MiB."""
BAND = 2**20
"""About how many pixels of an original are processed at a time."""


@dataclass(frozen=True)
class NumberMap:
    """A number for each pixel of an image of ``width`` x ``height`` pixels: NONE, or a number whose meaning the caller defines.

    It is kept in runs down the columns, one column after the other, so that thousands of maps fit in memory. ``starts`` [n] has
    the ascending positions where runs begin, from 0 on, and ``numbers`` [n] their numbers.
    """

    width: int
    height: int
    starts: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.int32]

    @classmethod
    def of(cls, pixels: npt.NDArray[Any]) -> NumberMap:
        """The map of an array of integers [height, width]."""
        height, width = pixels.shape
        down = np.ravel(np.asarray(pixels), order="F")
        starts = np.concatenate(([0], np.flatnonzero(down[1:] != down[:-1]) + 1))
        kind = np.int32 if len(down) < 2**31 else np.int64
        return cls(width, height, starts.astype(kind), down[starts].astype(np.int32))

    @property
    def pixels(self) -> npt.NDArray[np.int32]:
        """The numbers as an int32 array [height, width]."""
        return np.repeat(self.numbers, self._lengths).reshape(self.width, self.height).T

    @property
    def areas(self) -> dict[int, int]:
        """The number of pixels by number, for the numbers that occur, in ascending order."""
        found, places = np.unique(self.numbers, return_inverse=True)
        sums: Any = np.zeros(len(found), np.int64)
        np.add.at(sums, places, self._lengths)
        return dict(zip(found.tolist(), sums.tolist(), strict=True))

    def mask(self, number: int) -> dict[str, Any]:
        """The mask of the pixels with a number, in COCO's compressed RLE."""
        chosen = self.numbers == number
        edges = np.stack((self.starts[chosen], self.starts[chosen] + self._lengths[chosen]), axis=1).ravel()
        runs = np.diff(np.concatenate(([0], edges, [self.width * self.height])))
        counts = run_lengths.compressed(runs[:-1] if len(edges) and runs[-1] == 0 else runs)
        return {"size": [self.height, self.width], "counts": counts}

    def picture(self) -> bytes:
        """A PNG whose grey levels are the numbers, with 8 bits if they suffice, else 16. Raises ValueError for larger numbers."""
        highest = int(self.numbers.max())
        if highest > np.iinfo(np.uint16).max:
            raise ValueError(f"a PNG of 16 bits cannot hold the number {highest}")
        kind = np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16
        return bytes(cv2.imencode(".png", self.pixels.astype(kind))[1].data)

    @cached_property
    def _lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts, append=self.width * self.height)


def tensor(found: Sequence[NumberMap | None]) -> npt.NDArray[np.object_]:
    """The pictures of a batch, [n, 1], in base64, because servers may write them into JSON; an empty text for None."""
    texts = [b"" if one is None else base64.b64encode(one.picture()) for one in found]
    return np.array(texts, dtype=np.object_).reshape(-1, 1)


def told(found: NumberMap, entries: list[tuple[int, dict[str, Any]]]) -> tuple[list[dict[str, Any]], bool]:
    """The entries of a rendered answer, with their masks up to MOST_TOLD characters, and whether all have theirs."""
    left, whole, rendered = MOST_TOLD, True, []
    for number, entry in entries:
        mask = found.mask(number)
        left -= len(mask["counts"])
        whole = whole and left >= 0
        rendered.append({**entry, "mask": mask} if whole else entry)
    return rendered, whole


@dataclass(frozen=True)
class Band:
    """Some rows of an original, from ``top`` on, with the coordinates of their pixels' centres on the maps of a network."""

    top: int
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]

    def sampled(self, values: Floats, start: int = 0, end: int | None = None) -> Floats:
        """A map [height, width] interpolated bilinearly at the band's pixels, from column ``start`` to ``end``."""
        upper, down = _between(self.rows, values.shape[0])
        left, right = _between(self.columns[start:end], values.shape[1])
        below = np.minimum(upper + 1, values.shape[0] - 1)
        beside = np.minimum(left + 1, values.shape[1] - 1)
        lines = values[upper] * (1 - down)[:, None] + values[below] * down[:, None]
        found: Floats = lines.take(left, axis=1) * (1 - right) + lines.take(beside, axis=1) * right
        return found


def whole(image: Fitted, settings: Settings, size: tuple[int, int]) -> Band:
    """The whole original as one band, for maps of ``size`` (height, width) that cover the model's canvas."""
    at = geometry.fit(*image.shown, settings.image_size, settings.stride)
    rows, columns = (
        ((np.arange(length) + 0.5) * inner / length + offset) * cells / canvas - 0.5
        for length, inner, offset, cells, canvas in (
            (image.height, at.height, at.top, size[0], at.canvas_height),
            (image.width, at.width, at.left, size[1], at.canvas_width),
        )
    )
    return Band(0, rows, columns)


def bands(image: Fitted, settings: Settings, size: tuple[int, int]) -> Iterator[Band]:
    """The original in bands of about BAND pixels; arguments as of `whole`."""
    every = whole(image, settings, size)
    step = max(1, BAND // image.width)
    for top in range(0, image.height, step):
        yield Band(top, every.rows[top : top + step], every.columns)


def reached(places: npt.NDArray[np.float64], inside: Any) -> tuple[int, int]:
    """The range of ``places``, ascending coordinates on a map, that cells which are ``inside``, bool [cells], can affect."""
    cells = np.flatnonzero(inside)
    if not len(cells):
        return 0, 0
    # Interpolation extends a cell's effect to the centres of its neighbours.
    return int(places.searchsorted(cells[0] - 1)), int(places.searchsorted(cells[-1] + 1))


def _between(places: npt.NDArray[np.float64], length: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The cell before each coordinate, and the distance from that cell's centre, in cells."""
    inside = places.clip(0, length - 1)
    first = inside.astype(np.intp)
    return first, (inside - first).astype(np.float32)
