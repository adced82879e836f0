"""Describes a slice of a version's images, in figures and in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pelagos_contract.judgement import SliceFigures, ValueCount
from pelagos_pipelines.preparation.judging import slices
from pelagos_pipelines.preparation.judging.slices import Independence, Slice
from pelagos_pipelines.preparation.judging.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_SMALLEST = 10
LONGEST = 100
"""The most characters of a value in a result."""


@dataclass(frozen=True)
class Figures:
    """The figures of a slice. ``table`` [classes, values] counts images; ``missing`` is the number of its empty cells."""

    slice: Slice
    table: npt.NDArray[np.int64]
    missing: int
    test: Independence | None

    @property
    def told(self) -> str:
        """The figures in a sentence or two."""
        one, cells = self.slice, max(self.table.size, 1)
        said = [f"{len(one.whole)} values, which weigh as much as {one.effective:.1f} equally large ones"]
        if one.unknown:
            said.append(f"not known of {one.unknown} images")
        said.append(f"{self.missing} of {cells} combinations of class and value have no image")
        words = ["; ".join(said) + "."]
        if self.test is not None:
            words.append(_told(self.test))
        return " ".join(words)

    @property
    def document(self) -> SliceFigures:
        """The figures for a result, with the smallest values by name."""
        one, test = self.slice, self.test
        smallest = sorted(one.whole, key=lambda each: (each[1], each[0]))[:MOST_SMALLEST]
        return SliceFigures(
            name=one.name,
            values=len(one.whole),
            images=int(one.counts.sum()),
            unknown=one.unknown,
            effective=f"{one.effective:.4g}",
            missing=self.missing,
            combinations=int(self.table.size),
            association=None if test is None or math.isnan(test.association) else f"{test.association:.3f}",
            probability=None if test is None or test.probability is None else f"{test.probability:.3f}",
            smallest=[ValueCount(value=value[:LONGEST], images=images) for value, images in smallest],
        )


def of(tables: Tables, one: Slice, groups: npt.NDArray[np.int32]) -> Figures:
    """The figures of one slice. ``groups`` [images] has the number of each image's group, -1 for none."""
    table = tables.counted(one.codes, len(one.values))
    test = slices.independence(lambda codes: tables.counted(codes, len(one.values)), one.codes, groups)
    return Figures(one, table, int((table == 0).sum()), test)


def _told(test: Independence) -> str:
    strength = "" if math.isnan(test.association) else f"Cramer's V is {test.association:.2f}"
    chi = f"chi-square {test.statistic:.4g}, {test.freedom} degrees of freedom"
    if test.probability is None:
        return f"{strength} ({chi}); whether that is chance cannot be said: each group has a value of its own."
    beyond = "" if test.small == 0 else f"; {test.small:.0%} of the cells have an expected count below {slices.SMALL}"
    dealt = "groups" if test.grouped else "images"
    likely = f"p {'≤' if test.probability <= 1 / (slices.SHUFFLES + 1) else '='} {test.probability:.3f}"
    return f"{strength} ({chi}; {likely} by dealing out values to {dealt}, {test.images} images{beyond})."
