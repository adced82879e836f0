"""Finds boxes that repeat another one, as in files with the same annotation twice. Called by reading.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_GRIDS = 5
"""One more than the sides of a box, so that two near boxes share a cell in at least one of the grids."""
_FAR = 2.0**40
"""Bound of coordinates, so that cells fit into 64-bit integers; no image is that large."""
_CELLS, _BEYOND, _SMALLEST = 1 << 20, 1.01, 1e-300
_MOST_KINDS = 1 << 41
"""Bound of kinds, so that kind and cell fit into one 64-bit integer."""
_MIXING = 0x9E3779B97F4A7C1
"""Multiplier of a hash over image, class and cell. Collisions are harmless, as it only selects boxes to compare."""


def first_of_equal(
    whose: npt.NDArray[np.int32], classes: npt.NDArray[np.int32], sides: npt.NDArray[np.float64], rounded: float
) -> npt.NDArray[np.int64]:
    """Ascending indices of the boxes that do not repeat an earlier one of the same image and class, up to rounding."""
    import numpy as np

    # Only boxes that share a cell with another are compared further, and these are few.
    kinds = whose.astype(np.int64) * (int(classes.max(initial=0)) + 1) + classes
    crowded = _have_neighbours(kinds, sides, _GRIDS * rounded)
    if not len(crowded):
        return np.arange(len(whose))
    alone: Any = np.delete(np.arange(len(whose)), crowded)
    kept = _first_of_crowded(whose[crowded], classes[crowded], sides[crowded], rounded)
    return np.sort(np.concatenate((alone, crowded[kept])))


def _have_neighbours(kinds: npt.NDArray[Any], sides: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.int64]:
    """Ascending indices of boxes that include all with a neighbour: one of the same kind whose left and top differ by at most
    ``reach``.
    """
    import numpy as np

    found: npt.NDArray[np.int64] = _may_have_neighbours(kinds, sides[:, 0], reach)
    for side in sides.T[:2]:
        those, where = kinds[found], side[found]
        order = np.lexsort((where, those))
        near = (np.diff(those[order]) == 0) & (np.diff(where[order]) <= reach)
        beside: Any = np.zeros(len(found), bool)
        beside[order[1:]] = near
        beside[order[:-1]] |= near
        found = found[beside]
    return found


def _may_have_neighbours(
    kinds: npt.NDArray[Any], where: npt.NDArray[np.float64], reach: float
) -> npt.NDArray[np.int64]:
    """Ascending indices of places that include all with another of the same kind within ``reach``.

    Kind and cell are combined into one number, since sorting that takes a tenth of the time of sorting by both.
    """
    import numpy as np

    if not len(kinds) or int(kinds.max()) >= _MOST_KINDS:
        return np.arange(len(kinds))
    ahead = np.clip(where, -_FAR, _FAR)
    ahead -= ahead.min()
    # Slightly more than the reach, so that rounding moves nothing by more than one cell.
    ahead /= max(_BEYOND * reach, float(ahead.max()) / _CELLS, _SMALLEST)
    cells = kinds.astype(np.int64) * (2 * _CELLS) + ahead.astype(np.int64)
    order = np.argsort(cells)
    near = np.diff(cells[order]) <= 1
    beside: Any = np.zeros(len(kinds), bool)
    beside[order[1:]] = near
    beside[order[:-1]] |= near
    return np.flatnonzero(beside)


def _first_of_crowded(
    whose: npt.NDArray[np.int32], classes: npt.NDArray[np.int32], sides: npt.NDArray[np.float64], rounded: float
) -> npt.NDArray[np.int64]:
    import numpy as np

    kept: npt.NDArray[np.int64] = np.arange(len(whose))
    order = np.lexsort((*sides.T, classes, whose))  # stable: keeps the first of equal boxes first
    rows = (whose[order], classes[order], *sides[order].T)
    kept = np.delete(kept, order[1:][np.logical_and.reduce([column[1:] == column[:-1] for column in rows])])
    # Four sides can be separated in at most four of five grids. Within a cell, boxes are compared with the first similar one.
    for shift in range(_GRIDS):
        cells = np.clip(sides[kept] / (_GRIDS * rounded), -_FAR, _FAR) + shift / _GRIDS
        key = whose[kept].astype(np.int64)
        for column in (classes[kept], *np.floor(cells).astype(np.int64).T):
            key = key * _MIXING + column
        order = np.argsort(key, kind="stable")
        boxes = kept[order]
        follows = np.concatenate(([False], _are_near(boxes[1:], boxes[:-1], whose, classes, sides, rounded)))
        first = np.maximum.accumulate(np.where(follows, 0, np.arange(len(boxes))))
        kept = np.delete(kept, order[follows & _are_near(boxes, boxes[first], whose, classes, sides, rounded)])
    return kept


def are_doubted(whose: npt.NDArray[np.int32], sides: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which boxes of those without repetitions equal another one of their image, which then has another class."""
    import numpy as np

    found: npt.NDArray[np.bool_] = np.zeros(len(whose), bool)
    near = _have_neighbours(whose, sides, 0.0)
    whose, sides = whose[near], sides[near]
    order = np.lexsort((*sides.T, whose))
    rows = (whose[order], *sides[order].T)
    found[near[order[1:]]] = np.logical_and.reduce([column[1:] == column[:-1] for column in rows])
    return found


def _are_near(
    some: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    whose: npt.NDArray[np.int32],
    classes: npt.NDArray[np.int32],
    sides: npt.NDArray[np.float64],
    rounded: float,
) -> npt.NDArray[np.bool_]:
    """Which pairs of boxes, given by their indices, are the same up to rounding."""
    near = (abs(sides[some] - sides[others]) <= rounded).all(axis=1)
    found: npt.NDArray[np.bool_] = near & (whose[some] == whose[others]) & (classes[some] == classes[others])
    return found
