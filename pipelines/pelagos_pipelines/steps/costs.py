"""Brings what a training has cost until now to MLflow. Called by each stage before it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pelagos_contract.tags import COST_TAGS

if TYPE_CHECKING:
    from pelagos_contract.cost import Cost
    from pelagos_pipelines.metering.meter import Meter
    from pelagos_pipelines.training.tracking import Tracker


def told(meter: Meter, tracker: Tracker) -> Cost:
    """The cost, told at the seconds that it was computed until now; the last is that of all stages and attempts."""
    cost = meter.total()
    tracker.metrics(cost.figures(), round(cost.seconds), time.time())
    said = {
        "energyMethod": cost.energy_method,
        "gramsPerKwh": f"{cost.grams_per_kwh:g}",
        "missing": "; ".join(cost.missing) or "nothing",
    }
    tracker.describe({}, {f"{COST_TAGS}{name}": words for name, words in said.items()})
    return cost
