"""The learning rate over time: as the loop sets it at each step, and as ultralytics is configured."""

from __future__ import annotations

from typing import Any

import pytest

from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.training import schedules


def asked(**fields: Any) -> Hyperparameters:
    return Hyperparameters.model_validate({"epochs": 10, "learningRate": "0.1", **fields})


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, {0.0: 0.001, 0.05: 0.051, 0.1: 0.1, 0.55: 0.0505, 1.0: 0.001}),
        ({"learningRateSchedule": "Cosine", "warmupEpochs": 5}, {0.0: 0.0002, 0.25: 0.0502, 0.5: 0.1, 0.75: 0.0505}),
        ({"learningRateSchedule": "Linear"}, {0.1: 0.1, 0.325: 0.07525, 0.55: 0.0505, 1.0: 0.001}),
        ({"learningRateSchedule": "Constant"}, {0.05: 0.051, 0.1: 0.1, 0.55: 0.1, 0.99: 0.1}),
        ({"learningRateSchedule": "Constant", "warmupEpochs": 0}, {0.0: 0.1, 0.99: 0.1}),
    ],
)
def test_the_rate_rises_and_then_falls_as_is_asked_for(fields: dict[str, Any], want: dict[float, float]) -> None:
    assert {at: schedules.rate(asked(**fields), at) for at in want} == pytest.approx(want)


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, {"cos_lr": False}),
        ({"learningRateSchedule": "Linear"}, {"cos_lr": False}),
        ({"learningRateSchedule": "Cosine", "warmupEpochs": 0}, {"cos_lr": True, "warmup_epochs": 0.0}),
        ({"learningRateSchedule": "Constant"}, {"cos_lr": False, "lrf": 1.0}),
    ],
)
def test_ultralytics_is_told_in_its_words_and_of_nothing_that_nobody_asked_for(
    fields: dict[str, Any], want: dict[str, Any]
) -> None:
    assert schedules.ultralytics_arguments(asked(**fields)) == want
