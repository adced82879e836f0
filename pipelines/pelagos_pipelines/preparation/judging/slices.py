"""Slices of a version's images, by site, hour and so on: shares, effective numbers, and whether classes depend on them.

* Effective number of values: Hill's numbers (M. O. Hill, Diversity and evenness, Ecology 54, 1973), the number of equally large
  values that would be as even. Order 2 is the inverse of Simpson's index (E. H. Simpson, Measurement of diversity, Nature 163,
  1949).
* Dependence of classes on a slice: Cramer's V of the table of classes and values, corrected for bias (W. Bergsma, Journal of the
  Korean Statistical Society 42, 2013), from 0 (no dependence) to 1 (one determines the other).
* Test of independence: Pearson's chi-square. The tabulated distribution would need expected counts of 5 and more (W. G. Cochran,
  Biometrics 10, 1954) and images that show one class each. Instead, values are permuted (B. Phipson and G. K. Smyth, Statistical
  Applications in Genetics and Molecular Biology 9, 2010). If all images of each group have one value, groups are permuted as
  wholes, because their images are not independent observations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHUFFLES = 199
"""The number of permutations: the smallest p-value is 1 / (SHUFFLES + 1)."""
MOST_SHUFFLED = 20_000
"""The most images for the test, drawn by a seed: with this many it finds smaller differences than anyone acts on."""
MOST_VALUES = 200
"""Rarer values beyond these are counted as one: nobody reads a table of thousands."""
OTHERS = "others"
SEED = 14
SMALL = 5
"""Expected counts below this are small."""


@dataclass(frozen=True)
class Slice:
    """A slice. ``codes`` [images] are indices of ``values``, the most frequent value first; -1 where the value is not known.

    ``whole`` has all values with their numbers of images, including those that ``values`` counts as one.
    """

    name: str
    values: tuple[str, ...]
    codes: npt.NDArray[np.int32]
    whole: tuple[tuple[str, int], ...]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The number of images of each value, [values]."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    @property
    def effective(self) -> float:
        """The effective number of values, see `effective`."""
        return effective([images for _, images in self.whole])

    @property
    def unknown(self) -> int:
        """The number of images whose value is not known."""
        return int((self.codes < 0).sum())


@dataclass(frozen=True)
class Independence:
    """The test of independence of classes and a slice. ``small`` is the fraction of cells with a small expected count.

    ``probability`` is that of a statistic as high without a dependence. It is None if each group has a different value, so that
    permutations change nothing.
    """

    statistic: float
    freedom: int
    probability: float | None
    association: float
    small: float
    images: int
    grouped: bool


def coded(name: str, values: Sequence[str | None]) -> Slice:
    """A slice from one value for each image, None where it is not known."""
    # numpy's arrays of strings are not used: each item takes the length of the longest, and folder names are untrusted.
    whole = sorted(Counter(value for value in values if value is not None).items(), key=lambda one: (-one[1], one[0]))
    ranks: dict[str | None, int] = {value: min(rank, MOST_VALUES) for rank, (value, _) in enumerate(whole)}
    names = [value for value, _ in whole[:MOST_VALUES]]
    if len(whole) > MOST_VALUES:
        names.append(f"{len(whole) - MOST_VALUES} {OTHERS}")
    codes = np.fromiter((ranks.get(value, -1) for value in values), np.int32, len(values))
    return Slice(name, tuple(names), codes, tuple(whole))


def numbered(values: Sequence[str | None]) -> npt.NDArray[np.int32]:
    """Numbers of the values, [images], however many there are; -1 for none."""
    numbers: dict[str, int] = {}
    return np.array([-1 if one is None else numbers.setdefault(one, len(numbers)) for one in values], np.int32)


def effective(counts: Any, order: int = 2) -> float:
    """Hill's number of order 1 or 2: how many equally large parts would be as even as ``counts``; 0 for no counts."""
    counts = np.asarray(counts, float)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    if not shares.size:
        return 0.0
    return float(np.exp(-(shares * np.log(shares)).sum()) if order == 1 else 1 / (shares**2).sum())


def association(table: npt.NDArray[Any]) -> float:
    """Cramer's V, corrected for bias; NaN if only one row or column has counts, so that there can be no dependence."""
    table = _filled(table)
    total, (rows, columns) = table.sum(), table.shape
    if min(rows, columns) < 2 or total < 2:
        return float("nan")
    phi = max(0.0, chi_square(table) / total - (rows - 1) * (columns - 1) / (total - 1))
    rows_now, columns_now = (side - (side - 1) ** 2 / (total - 1) for side in (rows, columns))
    widest = min(rows_now, columns_now) - 1
    return min(1.0, float(np.sqrt(phi / widest))) if widest > 0 else float("nan")


def chi_square(table: npt.NDArray[Any]) -> float:
    """Pearson's chi-square statistic; empty rows and columns are left out."""
    table = _filled(table)
    expected = _expected(table)
    return float(((table - expected) ** 2 / expected).sum()) if table.size else 0.0


def independence(
    count: Callable[[Any], Any], codes: npt.NDArray[np.int32], groups: npt.NDArray[np.int32]
) -> Independence | None:
    """Test whether classes depend on a slice. ``count`` returns the table [classes, values] of codes; -1 leaves an image out.

    ``groups`` [images] has the number of each image's group, -1 for none. Returns None for fewer than two classes or values.
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
    # All images of a unit have the same value, so the first one's is taken.
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


def _units(
    known: npt.NDArray[np.int64], codes: npt.NDArray[np.int32], groups: npt.NDArray[np.int32]
) -> tuple[Any, bool]:
    """The unit of each known image in permutations, and whether units are groups: only if every group has one value."""
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


def _filled(table: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    table = np.asarray(table, float)
    found: npt.NDArray[np.float64] = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    return found


def _expected(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
    return found
