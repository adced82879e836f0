"""Reports the progress of a run with several trainings as a whole: all their epochs together. Used by the stage train.

Epochs that early stopping or pruning skips count as done when the training is done.
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
    """Counts the epochs of all trainings. ``tracker`` reports to the MLflow run above them, None if there is only one."""

    def __init__(self, run: Run) -> None:
        """Plan the epochs of a run, whose framework must be loaded."""
        request = run.request
        searched, trained = planned_epochs(request.search, request.hyperparameters.epochs, max(len(request.seeds), 1))
        self._run, self._before = run, {Stage.SEARCH: 0, Stage.TRAINING: searched}
        self._planned = {Stage.SEARCH: searched, Stage.TRAINING: trained}
        self.tracker: Tracker | None = run.tracker() if searched or len(request.seeds) > 1 else None

    def enter(self, stage: Stage) -> None:
        """Enter a stage: trials, or trainings."""
        self._run.telling.enter(stage, self._planned[stage])

    def count(self, stage: Stage, done: int, seconds: float | None = None) -> None:
        """Report that ``done`` epochs of the stage are finished, the last one in ``seconds``."""
        self._run.telling.count(done, self._planned[stage])
        if self.tracker is not None:
            together = self._before[stage] + done
            pace = {} if seconds is None else {"progress/seconds_per_epoch": seconds}
            self.tracker.metrics({"progress/epoch": float(together)} | pace, together, time.time())

    def end(self) -> None:
        """Report that all trainings are done, including skipped epochs."""
        if self.tracker is not None:
            self.count(Stage.TRAINING, self._planned[Stage.TRAINING])
            # The cost of all trainings together, because it cannot be attributed to single ones.
            trackers.told(self._run.meter, self.tracker)
        self.flush()

    def flush(self) -> None:
        """Wait until MLflow has everything."""
        if self.tracker is not None:
            self.tracker.flush()
