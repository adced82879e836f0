"""Cuts groups that are ordered in time into train, validation and test. Called by splitting for GroupedTemporal.

A model is used on images that are taken after its training, and images of one dive look alike because of the hour. So the
earliest groups become train and the latest test (Bergmeir and Benitez, On the use of cross-validation for time series predictor
evaluation, Information Sciences 191, 2012), and images within a gap before the next split are left out (h-block: Burman, Chow and
Nolan, A cross-validatory method for dependent data, Biometrika 81, 1994).

Groups are ordered by their first image. An image of an earlier split is kept only if it was taken at least the gap before the
first image of the next one; the others are in no split. So a model never learns from images that are later than those it is
measured by. The chosen cuts let train show every class, and give every split its share of each class, as far as possible. The
same images give the same division on every machine, for any seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract.splits import Split

CUTS = 40
"""Positions tried for each cut: half of them near the requested share, the others spread over all."""
KEPT = 8
"""How many of the last cut's positions are tried with all of the first cut's."""
_NEAR = 0.15
"""The fraction of all images within which a position counts as near the share."""
_UNTAUGHT, _ABSENT = 10.0, 0.2
"""The cost of a class that train does not show, and of one that another split does not."""


@dataclass(frozen=True)
class Dated:
    """Images that stay together: their paths, the class numbers on each, and the interval, in microseconds, when it was taken."""

    paths: Sequence[str]
    labels: Sequence[Sequence[int]]
    times: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Cut:
    """The split of each image by path; images in ``between`` have none."""

    splits: Mapping[str, Split]
    between: Sequence[str]


def cut(units: Sequence[Dated], shares: Mapping[Split, int], classes: int, gap: int) -> Cut | None:
    """The division. ``shares`` are the numbers of images that splits should have; ``gap`` is in microseconds.

    None if no cut leaves an image in every split, because too few groups begin at different moments.
    """
    return _Cutting(units, shares, classes, gap).best()


class _Cutting:
    """The search for cuts. Images are in arrays, sorted by their group's first moment; groups are numbered in that order."""

    def __init__(self, units: Sequence[Dated], shares: Mapping[Split, int], classes: int, gap: int) -> None:
        self._splits = list(shares)
        self._shares = [shares[split] / max(sum(shares.values()), 1) for split in self._splits]
        self._gap = gap
        ordered = sorted(units, key=lambda unit: (min(begin for begin, _ in unit.times), sorted(unit.paths)))
        self._paths = [path for unit in ordered for path in unit.paths]
        self._begins: Any = np.array([min(begin for begin, _ in unit.times) for unit in ordered], np.int64)
        sizes = [len(unit.paths) for unit in ordered]
        self._group: Any = np.repeat(np.arange(len(ordered)), sizes)
        self._end: Any = np.array([end for unit in ordered for _, end in unit.times], np.int64)
        listed = [labels for unit in ordered for labels in unit.labels]
        self._image: Any = np.repeat(np.arange(len(listed)), [len(labels) for labels in listed])
        self._label: Any = np.array([label for labels in listed for label in labels], np.int64)
        self._classes = classes
        self._totals = np.bincount(self._label, minlength=classes).tolist()
        self._before = np.concatenate(([0], np.cumsum(sizes)))

    def best(self) -> Cut | None:
        """The best of the cuts that are tried; None if none is possible."""
        if len(self._splits) == 1:
            return Cut(dict.fromkeys(self._paths, self._splits[0]), [])
        places = [self._places(sum(self._shares[: number + 1])) for number in range(len(self._splits) - 1)]
        if len(places) == 1:
            chosen: list[tuple[int, ...]] = [(place,) for place in places[0]]
        else:
            last = sorted(places[1], key=lambda place: (self._cost_of_last(place), place))[:KEPT]
            chosen = [(first, place) for first in places[0] for place in last if first < place]
        costs = {cuts: self._cost(self._held(cuts)) for cuts in chosen}
        possible = {cuts: cost for cuts, cost in costs.items() if cost is not None}
        if not possible:
            return None
        held = self._held(min(possible, key=lambda cuts: (possible[cuts], cuts)))
        splits: dict[str, Split] = {}
        for split, mask in zip(self._splits, held, strict=True):
            splits |= dict.fromkeys((self._paths[place] for place in np.flatnonzero(mask)), split)
        return Cut(splits, [path for path in self._paths if path not in splits])

    def _places(self, share: float) -> list[int]:
        """Numbers of groups before which a cut may be: those that begin later than the group before them."""
        later: Any = np.flatnonzero(np.diff(self._begins) > 0) + 1
        images = len(self._paths)
        near = later[abs(self._before[later] / images - share) <= _NEAR]
        nearest = later[np.argsort(abs(self._before[later] - share * images), kind="stable")[:1]]
        return sorted({*map(int, nearest), *_spread(near), *_spread(later)})

    def _held(self, cuts: tuple[int, ...]) -> list[Any]:
        """For each split, a mask [images] of the images in it."""
        edges = [0, *cuts, len(self._begins)]
        held = []
        for number in range(len(self._splits)):
            mask = (self._group >= edges[number]) & (self._group < edges[number + 1])
            if number + 1 < len(self._splits):
                mask &= self._end <= self._begins[edges[number + 1]] - self._gap
            held.append(mask)
        return held

    def _cost_of_last(self, place: int) -> float:
        mask = self._group >= place
        return self._off(mask, self._shares[-1])

    def _cost(self, held: Sequence[Any]) -> float | None:
        """The distance of a division from what was requested; None if a split is empty."""
        if not all(mask.any() for mask in held):
            return None
        taught = self._counts(held[0])
        untaught = sum(1 for count, total in zip(taught, self._totals, strict=True) if total and not count)
        lost = 1 - sum(int(mask.sum()) for mask in held) / len(self._paths)
        return math.fsum([_UNTAUGHT * untaught, lost, *map(self._off, held, self._shares)])

    def _off(self, mask: npt.NDArray[np.bool_], share: float) -> float:
        """The distance of a split from its share of the images, plus that from its share of each class on average."""
        counts, known = self._counts(mask), [total for total in self._totals if total]
        off = [
            abs(count / total - share) + (0.0 if count else _ABSENT)
            for count, total in zip(counts, self._totals, strict=True)
            if total
        ]
        return math.fsum([abs(int(mask.sum()) / len(self._paths) - share), math.fsum(off) / max(len(known), 1)])

    def _counts(self, mask: npt.NDArray[np.bool_]) -> list[int]:
        found: list[int] = np.bincount(self._label[mask[self._image]], minlength=self._classes).tolist()
        return found


def _spread(places: npt.NDArray[np.int64]) -> list[int]:
    """At most half of CUTS positions, evenly spread."""
    if not len(places):
        return []
    wanted = np.linspace(0, len(places) - 1, min(len(places), CUTS // 2)).round().astype(int)
    return [int(places[place]) for place in wanted]
