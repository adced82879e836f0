"""Reports that all stages of a training send to trackers: the cost until now, and to Weights & Biases if requested."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pelagos_contract.tags import COST_TAGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos_contract.cost import Cost
    from pelagos_pipelines.metering.meter import Meter
    from pelagos_pipelines.steps.runs import Run
    from pelagos_pipelines.training.tracking import Tracker
    from pelagos_pipelines.training.wandb_run import WandbRun


def told(meter: Meter, tracker: Tracker) -> Cost:
    """Send the cost until now, at the seconds of computing as its step. The last one covers all stages and attempts."""
    cost = meter.total()
    tracker.metrics(cost.figures(), round(cost.seconds), time.time())
    said = {
        "energyMethod": cost.energy_method,
        "gramsPerKwh": f"{cost.grams_per_kwh:g}",
        "missing": "; ".join(cost.missing) or "nothing",
    }
    tracker.describe({}, {f"{COST_TAGS}{name}": words for name, words in said.items()})
    return cost


def wandb_of(run: Run, config: Mapping[str, str], *, is_trial: bool = False) -> WandbRun:
    """The reports of the training, with its ``config``, to Weights & Biases, if its TrainingRun asks for them.

    Each of several seeds is a run there; trials of a search are not reported.
    """
    from pelagos_pipelines.training.wandb_run import WandbRun

    asked, number = run.request.wandb, run.tracking_run
    if run.part is not None:
        number += run.part.folder
        asked = asked and asked.model_copy(update={"name": f"{asked.name}, {run.part.name}"})
    return WandbRun(None if is_trial else asked, run.wandb, number, config, run.places.scratch / "wandb-home")
