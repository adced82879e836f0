"""Slices of the images of a version, by site, hour and so on: shares, effective numbers, and whether classes depend on them.

* Effective number of values: Hill's numbers (M. O. Hill, Diversity and evenness, Ecology 54, 1973). Of order 2 it is the
  inverse of Simpson's index (E. H. Simpson, Measurement of diversity, Nature 163, 1949): as many values of equal share would be
  as uneven.
* Dependence of classes on a slice: Cramer's V of the table of classes and values, corrected for bias (W. Bergsma, Journal of the
  Korean Statistical Society 42, 2013): 0 is none, 1 is that the one tells the other.
* Test of independence: Pearson's chi-square. Its distribution is not taken from a table, which would ask for expected counts of 5
  and more (W. G. Cochran, Biometrics 10, 1954) and for images that show one class each: it is found by dealing out the values
  anew (B. Phipson and G. K. Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010). Images of a group are
  dealt to together where all of a group have one value, since they are no independent observations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SHUFFLES = 199
"""How often values are dealt out anew: the smallest p-value is 1 / (SHUFFLES + 1)."""
MOST_SHUFFLED = 20_000
"""Images, drawn by a seed, on which the test of more is made: it finds smaller differences than anybody acts on."""
MOST_VALUES = 200
"""Values beyond these, the rarest ones, are counted as one: nobody looks at a table of thousands."""
OTHERS = "others"
SEED = 14
SMALL = 5
"""Expected counts below this are small."""


@dataclass(frozen=True)
class Slice:
    """``codes`` [images]: indices of ``values``, the most frequent one first; -1 where it is not known.

    ``whole`` are all values with their images, also those that count as one in ``values``.
    """

    name: str
    values: tuple[str, ...]
    codes: Any
    whole: tuple[tuple[str, int], ...]

    @property
    def counts(self) -> Any:
        """[values]: images of each."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    @property
    def effective(self) -> float:
        """Of how many equally large values the evenness is that of these."""
        return effective([images for _, images in self.whole])

    @property
    def unknown(self) -> int:
        """Images of which it is not known."""
        return int((self.codes < 0).sum())


@dataclass(frozen=True)
class Independence:
    """Of classes and the values of a slice. ``small`` is the share of cells with a small expected count.

    ``probability`` of a statistic as high without a dependence; None where each group has a value of its own, so that there is
    nothing to deal out.
    """

    statistic: float
    freedom: int
    probability: float | None
    association: float
    small: float
    images: int
    grouped: bool


def coded(name: str, values: Sequence[str | None]) -> Slice:
    """A slice of one value for each image; None where it is not known."""
    # Not numpy's arrays of texts: in those each is as long as the longest, and strangers name folders.
    whole = sorted(Counter(value for value in values if value is not None).items(), key=lambda one: (-one[1], one[0]))
    ranks: dict[str | None, int] = {value: min(rank, MOST_VALUES) for rank, (value, _) in enumerate(whole)}
    names = [value for value, _ in whole[:MOST_VALUES]]
    if len(whole) > MOST_VALUES:
        names.append(f"{len(whole) - MOST_VALUES} {OTHERS}")
    codes = np.fromiter((ranks.get(value, -1) for value in values), np.int32, len(values))
    return Slice(name, tuple(names), codes, tuple(whole))


def numbered(values: Sequence[str | None]) -> Any:
    """[images]: the number of each value, however many there are; -1 for none."""
    numbers: dict[str, int] = {}
    return np.array([-1 if one is None else numbers.setdefault(one, len(numbers)) for one in values], np.int32)


def effective(counts: Any, order: int = 2) -> float:
    """Hill's number of order 1 or 2: of how many equally large parts the evenness is that of ``counts``; 0 of nothing."""
    counts = np.asarray(counts, float)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    if not shares.size:
        return 0.0
    return float(np.exp(-(shares * np.log(shares)).sum()) if order == 1 else 1 / (shares**2).sum())


def association(table: Any) -> float:
    """Cramer's V, corrected for bias; NaN where there is one row or column, so that nothing can depend on it."""
    table = _filled(table)
    total, (rows, columns) = table.sum(), table.shape
    if min(rows, columns) < 2 or total < 2:
        return float("nan")
    phi = max(0.0, chi_square(table) / total - (rows - 1) * (columns - 1) / (total - 1))
    rows_now, columns_now = (side - (side - 1) ** 2 / (total - 1) for side in (rows, columns))
    widest = min(rows_now, columns_now) - 1
    return min(1.0, float(np.sqrt(phi / widest))) if widest > 0 else float("nan")


def chi_square(table: Any) -> float:
    """Pearson's statistic; rows and columns of nothing are left out."""
    table = _filled(table)
    expected = _expected(table)
    return float(((table - expected) ** 2 / expected).sum()) if table.size else 0.0


def independence(count: Callable[[Any], Any], codes: Any, groups: Any) -> Independence | None:
    """Whether classes depend on a slice. ``count`` makes the table [classes, values] of codes, of which -1 leaves an image out.

    ``groups`` [images]: the number of each image's group, -1 for none. None where there are fewer than two classes or values.
    """
    known = np.flatnonzero(codes >= 0)
    random = np.random.default_rng(SEED)
    if len(known) > MOST_SHUFFLED:
        known = np.sort(random.choice(known, MOST_SHUFFLED, replace=False))
    thinned = np.full_like(codes, -1)
    thinned[known] = codes[known]
    table = _filled(count(thinned))
    if min(table.shape) < 2:
        return None
    statistic = chi_square(table)
    units, grouped = _units(known, codes, groups)
    # A unit's value is that of its first image: all of them have it.
    firsts = np.unique(units, return_index=True)[1]
    values, as_high = codes[known][firsts], 0
    can_tell = len(values) > len(np.unique(values))
    for _ in range(SHUFFLES if can_tell else 0):
        dealt = np.full_like(codes, -1)
        dealt[known] = random.permutation(values)[units]
        as_high += chi_square(count(dealt)) >= statistic * (1 - 1e-9)
    small = float((_expected(table) < SMALL).mean())
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    probability = (as_high + 1) / (SHUFFLES + 1) if can_tell else None
    return Independence(statistic, freedom, probability, association(table), small, len(known), grouped)


def _units(known: Any, codes: Any, groups: Any) -> tuple[Any, bool]:
    """What is dealt to together: the number of each known image's group, where every group has one value, else its own."""
    alone = np.arange(len(known))
    found = groups[known]
    if not (found >= 0).any():
        return alone, False
    # Images without a group are groups of one.
    named = np.where(found >= 0, found, found.max() + 1 + alone)
    numbers = np.unique(named, return_inverse=True)[1].reshape(-1)
    pairs = np.unique(np.stack((numbers, codes[known])), axis=1).shape[1]
    several = numbers.max() + 1
    return (numbers, True) if pairs == several else (alone, False)


def _filled(table: Any) -> Any:
    table = np.asarray(table, float)
    return table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]


def _expected(table: Any) -> Any:
    return np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
