"""What trainings differ in, and whether their figures differ by more than chance. Pure.

Chance is judged by a permutation test over seeds (Pitman 1937, doi:10.2307/2984124): if what was changed made no difference, each
seed's figure could as well be one of the other training. The share of all ways to deal them out that set the means as far apart
as they are is the probability p of seeing such a difference by chance. Exact for few seeds, and assumes no distribution.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.05
"""Below this probability a difference is called more than chance."""
MOST_WAYS = 50_000
"""Above so many ways to deal the figures out, as many are drawn at random, always the same ones."""
_SLACK = 1e-12


@dataclass(frozen=True)
class Chance:
    """``p`` of a difference, and the smallest that so many seeds could have shown; None where there are too few to say."""

    p: float | None
    smallest: float | None
    words: str

    @property
    def is_more(self) -> bool | None:
        """Whether the difference is more than chance; None when nobody can say."""
        return None if self.p is None else self.p <= LEVEL


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Leaves of a document by their path, as text."""
    found: dict[str, str] = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        else:
            found[path] = "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def differing(documents: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """What is not the same in all documents: a value for each of them by path, None where there is none."""
    each = [flat(document) for document in documents]
    names = sorted({name for found in each for name in found})
    values = {name: [found.get(name) for found in each] for name in names}
    return {name: listed for name, listed in values.items() if len(set(listed)) > 1}


def chance(one: Sequence[float], other: Sequence[float]) -> Chance:
    """Whether the means of two trainings' figures, one for each seed, differ by more than chance."""
    ways = math.comb(len(one) + len(other), len(one))
    if len(one) < 2 or len(other) < 2:
        return Chance(None, None, "one training each says nothing of chance: give both several spec.seeds")
    # Both ways round when there are as many of each; otherwise one way of dealing alone may be as extreme.
    smallest = (2 if len(one) == len(other) else 1) / ways
    if smallest > LEVEL:
        words = f"too few seeds to say: {len(one)} and {len(other)} could show no p below {smallest:.2g}"
        return Chance(None, smallest, words)
    p = _share(one, other, ways)
    words = "more than chance" if p <= LEVEL else "may be chance"
    return Chance(p, smallest, f"{words} (p {_probability(p)})")


def _share(one: Sequence[float], other: Sequence[float], ways: int) -> float:
    together, count = [*one, *other], len(one)
    total, seen = sum(together), abs(statistics.fmean(one) - statistics.fmean(other))

    def apart(chosen: float) -> float:
        return abs(chosen / count - (total - chosen) / len(other))

    # Rounding must not make the way in which they were found less extreme than itself.
    least = seen - _SLACK * max(1.0, abs(total))
    if ways <= MOST_WAYS:
        sums = (sum(chosen) for chosen in itertools.combinations(together, count))
        return sum(apart(chosen) >= least for chosen in sums) / ways
    drawn = random.Random(0)  # noqa: S311 - the same answer each time
    extreme = sum(apart(sum(drawn.sample(together, count))) >= least for _ in range(MOST_WAYS))
    return (extreme + 1) / (MOST_WAYS + 1)


def _probability(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else "below 0.001"
