"""The permutation test: exact for few seeds, sampled for many, and never certain where it cannot be."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from pelagos.decisions.training_run import comparing


def brute(one: list[float], other: list[float]) -> float:
    """The p-value over all permutations of the figures."""
    together = one + other
    seen = abs(statistics.fmean(one) - statistics.fmean(other))
    orders = list(itertools.permutations(together))
    extreme = sum(
        abs(statistics.fmean(order[: len(one)]) - statistics.fmean(order[len(one) :])) >= seen - 1e-12
        for order in orders
    )
    return extreme / len(orders)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]),
        ([0.1, 0.2, 0.3, 0.4], [0.25, 0.35, 0.15, 0.3]),
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]),
        ([0.1, 0.9], [0.2, 0.3, 0.4, 0.35, 0.31, 0.32]),
    ],
    ids=["apart", "overlapping", "all equal", "of unequal number"],
)
def test_it_counts_every_way_in_which_figures_could_have_fallen(one: list[float], other: list[float]) -> None:
    found = comparing._share(one, other, math.comb(len(one) + len(other), len(one)))

    assert found == pytest.approx(brute(one, other), abs=1e-12)


def test_of_many_seeds_ways_are_drawn_and_the_answer_is_always_the_same() -> None:
    one, other = [0.5 + 0.01 * number for number in range(12)], [0.7 + 0.01 * number for number in range(12)]

    found = comparing.chance(one, other)

    assert found.is_more
    assert found == comparing.chance(one, other)
    assert found.p is not None
    assert found.p < 0.001
    assert found.words == "more than chance (p below 0.001)"


def test_lists_and_missing_values_are_told_apart() -> None:
    differing = comparing.differing([{"a": [1, 2], "b": {"c": None}}, {"a": [1, 3], "b": {}}])

    assert differing == {"a": ["1, 2", "1, 3"], "b.c": ["", None]}
