"""How far a run is as a whole, that has more than one training: all its epochs together. Used by the stage train.

What early stopping and pruning leave out counts as done when the training is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pelagos_contract.progress import Stage
from pelagos_contract.search import planned_epochs
from pelagos_pipelines.steps import trackers

if TYPE_CHECKING:
    from pelagos_pipelines.steps.runs import Run
    from pelagos_pipelines.training.tracking import Tracker


class Whole:
    """Counts for those who watch; ``tracker`` tells MLflow of the run above its trainings, None where there is only one."""

    def __init__(self, run: Run) -> None:
        """Of a run whose framework is loaded."""
        request = run.request
        searched, trained = planned_epochs(request.search, request.hyperparameters.epochs, max(len(request.seeds), 1))
        self._run, self._before = run, {Stage.SEARCH: 0, Stage.TRAINING: searched}
        self._planned = {Stage.SEARCH: searched, Stage.TRAINING: trained}
        self.tracker: Tracker | None = run.tracker() if searched or len(request.seeds) > 1 else None

    def enter(self, stage: Stage) -> None:
        """Trials, or trainings, begin or go on."""
        self._run.telling.enter(stage, self._planned[stage])

    def count(self, stage: Stage, done: int, seconds: float | None = None) -> None:
        """So many epochs of the stage are done, the last in so many seconds."""
        self._run.telling.count(done, self._planned[stage])
        if self.tracker is not None:
            together = self._before[stage] + done
            pace = {} if seconds is None else {"progress/seconds_per_epoch": seconds}
            self.tracker.metrics({"progress/epoch": float(together)} | pace, together, time.time())

    def end(self) -> None:
        """All trainings are done, whatever was left out of them."""
        if self.tracker is not None:
            self.count(Stage.TRAINING, self._planned[Stage.TRAINING])
            # What all of them took: nothing tells which of them took how much of it.
            trackers.told(self._run.meter, self.tracker)
        self.flush()

    def flush(self) -> None:
        """Wait until MLflow knows it."""
        if self.tracker is not None:
            self.tracker.flush()
