"""How far a training is, from the tracked run's latest metrics."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from pelagos.api.training_run import Progress
from pelagos.decisions import moments
from pelagos.decisions.training_run.observed import Observed
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tracking import TrackedRun

EPOCH_METRIC = "progress/epoch"
PACE_METRIC = "progress/seconds_per_epoch"
MOST = 1e6
"""Epochs, and seconds per epoch, beyond which a tracked figure makes no sense; anybody may write metrics."""


def progress_of(seen: Observed) -> Progress | None:
    """What status says of it; None when nobody knows."""
    return progress(seen.tracked, seen.spec.hyperparameters.epochs, seen.run, seen.time_of_day or seen.now)


def progress(tracked: TrackedRun | None, epochs: int, run: PipelineRun | None, now: datetime) -> Progress | None:
    """Epochs done, and when the last should be.

    The estimated end is in whole minutes, so that looking again does not mean writing again.
    """
    if tracked is None or run is None:
        return None
    epoch = tracked.metrics.get(EPOCH_METRIC, math.nan)
    if not 0 <= epoch <= MOST:
        return None
    done = int(epoch)
    pace, eta = tracked.metrics.get(PACE_METRIC, math.nan), None
    if 0 < pace <= MOST and run.finished_at is None and done < epochs:
        minutes = math.ceil((now.timestamp() + pace * (epochs - done)) / 60)
        eta = moments.timestamp(datetime.fromtimestamp(minutes * 60, UTC))
    return Progress(epoch=done, epochs=epochs, percent=min(100, done * 100 // epochs), eta=eta)
