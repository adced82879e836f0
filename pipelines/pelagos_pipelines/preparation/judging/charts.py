"""Draws the figures of a report, by the names of their PNG files. The page shows the same figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pelagos_contract.judgement import CLASSES, POSITIONS, SIZES, SPLITS_OF_CLASSES, slice_picture
from pelagos_contract.splits import SPLITS
from pelagos_pipelines.preparation.judging import drawing
from pelagos_pipelines.preparation.judging.figures import Figures
from pelagos_pipelines.preparation.judging.sketch import Figure
from pelagos_pipelines.preparation.judging.tables import Tables

MOST_CLASSES, MOST_VALUES = 60, 24
"""The most rows and columns of a figure."""
MAPS = {
    POSITIONS: "Where annotations lie: all images laid on top of each other, yellow where most are. A pattern that the"
    " camera did not make is worth a question.",
    SIZES: f"How large annotations are: width to the right, height upwards, from {drawing.SMALLEST:.1%} of the image to all"
    " of it, in logarithms.",
}


def of(tables: Tables, figures: Sequence[Figures]) -> dict[str, Figure]:
    """All figures for which there are data."""
    found = {}
    order = shown(tables.by_class)
    if order:
        names, table = [tables.classes[one] for one in order], tables.by_class_and_split[order]
        totals = tables.by_class[order]
        told = [
            f"{total}  ({' / '.join(map(str, row))})"
            for total, row in zip(totals.tolist(), table.tolist(), strict=True)
        ]
        found[CLASSES] = drawing.bars(
            names, table, drawing.SPLIT_COLOURS, told, "Class balance: images of each class by split"
        )
        found[SPLITS_OF_CLASSES] = drawing.matrix(names, SPLITS, table, "Images of each class by split (framed: none)")
    if len(tables.boxes):
        positions, sizes = drawing.position_map(tables.boxes), drawing.size_map(tables.boxes)
        found[POSITIONS] = drawing.framed(positions, "Where annotations lie", drawing.LINEAR)
        found[SIZES] = drawing.framed(sizes, "Width and height of annotations", drawing.LOGARITHMIC)
    for each in figures:
        name, values = each.slice.name, each.slice.values[:MOST_VALUES]
        if rows := largest(each.table.sum(axis=1))[:MOST_CLASSES]:
            names, table = [tables.classes[place] for place in rows], each.table[rows][:, : len(values)]
            described = f"Images of each class by {name} (framed: none)"
            found[slice_picture(name)] = drawing.matrix(names, values, table, described)
    return found


def largest(counts: npt.NDArray[np.int64]) -> list[int]:
    """The indices of ``counts``, the largest count first."""
    return [int(place) for place in np.argsort(-counts, kind="stable")]


def shown(totals: npt.NDArray[np.int64]) -> list[int]:
    """The classes that figures show: all, or if there are too many, the largest and the rarest."""
    order = largest(totals)
    return order if len(order) <= MOST_CLASSES else order[: MOST_CLASSES // 2] + order[-MOST_CLASSES // 2 :]
