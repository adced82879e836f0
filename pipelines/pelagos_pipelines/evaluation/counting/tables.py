"""Sums of tables over weighted images, and means over classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Table = Mapping[str, Any]
"""Columns ``[rows]`` by name."""


def stacked(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, Any]:
    """Concatenate the tables of single images; ``columns`` are numpy types by name."""
    return {
        name: np.concatenate([np.asarray(row[name]).astype(kind) for row in rows]) if rows else np.zeros(0, kind)
        for name, kind in columns.items()
    }


class Sums:
    """Sums of one column by class, over the weighted images of each multiset."""

    def __init__(self, table: Table, column: str | None, images: int, classes: int) -> None:
        """``column`` is summed; None counts the rows."""
        values = np.ones(len(table["image"])) if column is None else np.asarray(table[column], float)
        self._by_class = sparse.coo_array((values, (table["class"], table["image"])), (classes, images)).tocsr()

    def of(self, weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The sums ``[multisets, classes]``; integers are exact below 2^53."""
        found: npt.NDArray[np.float64] = (self._by_class @ weights.T.astype(float)).T
        return found


def share(
    parts: npt.NDArray[np.float64], whole: npt.NDArray[np.float64], present: npt.NDArray[np.bool_] | np.bool_
) -> npt.NDArray[np.float64]:
    """``parts`` divided by ``whole``, 0 where the whole is 0; NaN where not ``present``."""
    return np.where(present, parts / np.maximum(whole, 1), np.nan)
