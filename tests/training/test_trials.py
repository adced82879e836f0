"""Which parameters trials try, and which are pruned: determined by seed, number and earlier trials, and within the space."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pelagos_contract.search import Search, TrialState
from pelagos_pipelines.training import trials
from pelagos_pipelines.training.trials import Tried

SPACE: dict[str, Any] = {
    "learningRate": {"minimum": "0.0001", "maximum": "0.1", "scale": "Log"},
    "batchSize": {"values": [8, 16]},
    "imageSize": {"minimum": 64, "maximum": 128},
    "epochs": {"minimum": 2, "maximum": 4},
    "optimizer": {"values": ["AdamW", "SGD"]},
}


def make_search(method: str = "Tpe", space: dict[str, Any] = SPACE, **more: Any) -> Search:
    return Search.model_validate({"method": method, "trials": 20, "space": space, **more})


def ended(values: dict[int, float], **more: Any) -> Tried:
    return Tried(parameters={}, state=TrialState.COMPLETED, value=max(values.values()), values=values, **more)


def searched(search: Search, count: int, before: list[Tried] | None = None) -> list[Tried]:
    """Run a search whose trials score better the closer the learning rate is to 0.01; the fourth one fails."""
    found = list(before or ())
    for number in range(len(found), count):
        parameters = trials.proposed(search, number, found)
        value = -abs(float(parameters["learningRate"]) - 0.01)
        state = TrialState.FAILED if number == 3 else TrialState.COMPLETED
        found.append(Tried(parameters, state, None if state is TrialState.FAILED else value))
    return found


@pytest.mark.parametrize("method", ["Random", "Tpe"])
def test_what_is_tried_lies_in_the_space_and_is_the_same_again(method: str) -> None:
    search = make_search(method)
    found = searched(search, 15)

    for each in found:
        rate = each.parameters["learningRate"]
        assert 0.0001 <= float(rate) <= 0.1
        assert len(rate.replace("0.", "").lstrip("0")) <= 10
        assert each.parameters["batchSize"] in {"8", "16"}
        assert each.parameters["imageSize"] in {"64", "96", "128"}
        assert each.parameters["epochs"] in {"2", "3", "4"}
        assert each.parameters["optimizer"] in {"AdamW", "SGD"}
    assert len({each.parameters["learningRate"] for each in found}) == 15
    # Interrupted and continued from the recorded trials, the search makes the same choices.
    assert searched(search, 15, found[:7]) == found
    assert searched(make_search(method, seed=1), 15) != found


def test_an_estimator_comes_closer_than_chance() -> None:
    by_method = {method: searched(make_search(method, trials=40), 40) for method in ("Random", "Tpe")}
    late = {name: sum(each.value or 0 for each in found[20:]) for name, found in by_method.items()}

    assert late["Tpe"] > late["Random"]


def test_a_grid_tries_each_combination_once_in_the_order_of_the_space() -> None:
    space = {"learningRate": {"values": ["0.1", "0.01"]}, "batchSize": {"values": [8, 16]}}
    search = make_search("Grid", space, trials=10)

    assert search.size == 4
    found = [trials.proposed(search, number, []) for number in range(search.size)]
    assert found == [
        {"learningRate": rate, "batchSize": size} for rate, size in itertools.product(("0.1", "0.01"), ("8", "16"))
    ]


def test_a_range_ends_where_it_says_though_six_digits_would_not() -> None:
    space = {"learningRate": {"minimum": "0.01234567", "maximum": "0.01234568"}}
    found = {trials.proposed(make_search("Random", space), number, [])["learningRate"] for number in range(5)}

    assert found <= {"0.01234567", "0.01234568"}


BEFORE = [ended({1: 0.1, 2: value, 3: value}) for value in (0.3, 0.5, 0.7)]


@pytest.mark.parametrize(
    ("values", "pruning", "hopeless"),
    [
        ({1: 0.1, 2: 0.4}, {"startupTrials": 3}, True),
        ({1: 0.1, 2: 0.6}, {"startupTrials": 3}, False),
        ({1: 0.6, 2: 0.4}, {"startupTrials": 3}, False),
        ({1: 0.0}, {"startupTrials": 3}, False),
        ({1: 0.0}, {"startupTrials": 3, "warmUpEpochs": 0}, True),
        ({1: 0.1, 2: 0.4}, {"startupTrials": 4}, False),
        ({1: 0.1, 2: 0.4}, {}, False),
        ({1: 0.1, 2: 0.4}, None, False),
    ],
    ids=["below the median", "above", "was above", "warming up", "no warm-up", "too few", "by default", "never"],
)
def test_a_trial_below_the_median_of_those_before_is_ended(
    values: dict[int, float], pruning: dict[str, int] | None, hopeless: bool
) -> None:
    assert trials.is_hopeless(make_search(pruning=pruning), values, BEFORE) is hopeless
