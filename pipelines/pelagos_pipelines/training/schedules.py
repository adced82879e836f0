"""The learning rate in the course of a training. It is a function of progress alone, so no checkpoint needs to keep it.

The loop calls `rate` for each step. ultralytics has its own schedules, by epochs; `ultralytics_arguments` chooses among them.
"""

from __future__ import annotations

import math
from typing import Any

from pelagos_contract.training import Hyperparameters

WARM_UP = 0.1
"""Fraction of all steps over which the rate rises from zero, unless the request says otherwise."""
LOWEST = 0.01
"""Fraction of the rate at which a falling schedule ends; the same as in ultralytics."""


def rate(parameters: Hyperparameters, progress: float) -> float:
    """The learning rate at ``progress`` in [0, 1) of the training."""
    whole = float(parameters.learning_rate)
    warm = WARM_UP if parameters.warmup_epochs is None else parameters.warmup_epochs / parameters.epochs
    if progress < warm:
        whole *= (progress + 0.001) / warm
        return whole
    match parameters.learning_rate_schedule:
        case "Constant":
            return whole
        case "Linear":
            return whole * (LOWEST + (1 - LOWEST) * (1 - progress) / (1 - warm))
        case _:
            return whole * (LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2)


def ultralytics_arguments(parameters: Hyperparameters) -> dict[str, Any]:
    """The schedule as arguments of ultralytics' trainers. Their defaults are three epochs of warm-up and a linear fall."""
    out: dict[str, Any] = {"cos_lr": parameters.learning_rate_schedule == "Cosine"}
    if parameters.learning_rate_schedule == "Constant":
        out["lrf"] = 1.0  # the fraction at which the linear schedule ends
    if parameters.warmup_epochs is not None:
        out["warmup_epochs"] = float(parameters.warmup_epochs)
    return out
