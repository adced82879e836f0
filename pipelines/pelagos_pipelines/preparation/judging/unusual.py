"""Finds boxes whose size is unusual for their class: often a slip of the mouse, or a wrong class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.preparation.judging.tables import Tables

FEWEST = 20
"""The least boxes of a class for which a usual size is known."""
FAR = 3.5
"""Robust standard deviations (B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers, 1993) from the median of a class."""
SPREAD = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""
NARROWEST = 0.1
"""The least deviation of the logarithm: in classes with nearly constant sizes, small differences are not unusual."""
MOST = 24


@dataclass(frozen=True)
class Unusual:
    """A box by its row. ``times`` is its size relative to its class's median, as a geometric mean of both sides."""

    row: int
    times: float
    far: float


def boxes(tables: Tables) -> list[Unusual]:
    """Unusual boxes, the most unusual first: by the logarithms of the area in pixels, and of height divided by width."""
    if not len(tables.boxes):
        return []
    found: dict[int, Unusual] = {}
    # At least half a pixel, because a box may have no area at all, whose logarithm would be infinite.
    sides = np.maximum(tables.boxes[:, 2:] * tables.sizes[tables.box_of[:, 0]], 0.5)
    area, ratio = np.log(sides).sum(axis=1), np.diff(np.log(sides), axis=1)[:, 0]
    for number in range(len(tables.classes)):
        rows = np.flatnonzero(tables.box_of[:, 1] == number)
        if len(rows) < FEWEST:
            continue
        far = np.maximum(_far(area[rows]), _far(ratio[rows]))
        middle = np.median(area[rows])
        for place in np.flatnonzero(far > FAR):
            row = int(rows[place])
            found[row] = Unusual(row, float(np.exp((area[row] - middle) / 2)), float(far[place]))
    return sorted(found.values(), key=lambda one: (-one.far, one.row))


def _far(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    off = np.abs(values - np.median(values))
    return off / max(SPREAD * float(np.median(off)), NARROWEST)
