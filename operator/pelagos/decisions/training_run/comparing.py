"""How trainings differ, and whether their figures differ by more than chance. Pure.

Chance is judged by a permutation test over seeds (Pitman 1937, doi:10.2307/2984124). If the change had no effect, each seed's
figure could equally belong to the other training. The share of all assignments whose means are at least as far apart as those
observed is the probability p of such a difference by chance. It is exact for few seeds, and assumes no distribution.
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
"""Up to this probability, a difference counts as more than chance."""
MOST_WAYS = 50_000
"""If there are more assignments than this, so many are drawn at random, always the same ones."""
_SLACK = 1e-12


@dataclass(frozen=True)
class Chance:
    """The ``p`` of a difference, and the smallest that so many seeds can yield. None if there are too few seeds."""

    p: float | None
    smallest: float | None
    words: str

    @property
    def is_more(self) -> bool | None:
        """Whether the difference is more than chance; None when there are too few seeds to say."""
        return None if self.p is None else self.p <= LEVEL


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The leaves of a document as text, by dotted path."""
    found: dict[str, str] = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        else:
            found[path] = "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def differing(documents: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """By path, the leaves that differ between documents: the value in each of them, None if it has none."""
    each = [flat(document) for document in documents]
    names = sorted({name for found in each for name in found})
    values = {name: [found.get(name) for found in each] for name in names}
    return {name: listed for name, listed in values.items() if len(set(listed)) > 1}


def chance(one: Sequence[float], other: Sequence[float]) -> Chance:
    """Whether the means of two trainings' figures, one figure per seed, differ by more than chance."""
    ways = math.comb(len(one) + len(other), len(one))
    if len(one) < 2 or len(other) < 2:
        return Chance(None, None, "one training each says nothing about chance: give both several spec.seeds")
    # With equal numbers, swapping the two trainings is as extreme as the observation itself. Otherwise only that one is certain.
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

    # Rounding must not make the observed assignment look less extreme than itself.
    least = seen - _SLACK * max(1.0, abs(total))
    if ways <= MOST_WAYS:
        sums = (sum(chosen) for chosen in itertools.combinations(together, count))
        return sum(apart(chosen) >= least for chosen in sums) / ways
    drawn = random.Random(0)  # noqa: S311 - the same answer each time
    extreme = sum(apart(sum(drawn.sample(together, count))) >= least for _ in range(MOST_WAYS))
    return (extreme + 1) / (MOST_WAYS + 1)


def _probability(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else "below 0.001"
