"""How far a training has come and which epoch is its best, by one rule for all families. Part of every checkpoint.

Families update it after each epoch. The step reports the best epoch that the family returns, whose weights are in ``Job.best``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos_contract.tasks import TASKS, Task
from pelagos_contract.training import TrainingRequest

LOSS = "validation/loss"
_NOTHING = (-math.inf, -math.inf)


def fitness(metrics: Mapping[str, float], task: Task) -> tuple[float, float]:
    """The key by which epochs, and trainings, are compared: greater is better.

    The task's metric comes first, then the loss. A validation split without annotations has no metric; the loss decides alone.
    """
    return metrics.get(f"validation/{TASKS[task].fitness}", -math.inf), -metrics.get(LOSS, math.inf)


@dataclass(frozen=True)
class Progress:
    """Finished epochs, the best of them, and how fit that one is.

    The best epoch has the highest metric; among equals, the lowest loss on the validation split; among those, it is the first.
    So when the metric is the same in many epochs, because it is perfect or still zero, the lowest loss decides.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: tuple[float, float] = _NOTHING

    def after(self, metrics: Mapping[str, float], task: Task) -> Progress:
        """The progress after one more epoch of a training for ``task``, which ended with ``metrics``."""
        fit = fitness(metrics, task)
        if self.best_epoch == 0 or fit > self.best:
            return Progress(self.epoch + 1, self.epoch + 1, fit)
        return Progress(self.epoch + 1, self.best_epoch, self.best)

    @property
    def is_best(self) -> bool:
        """Whether the last epoch is the best of those finished."""
        return 0 < self.epoch == self.best_epoch

    def is_over(self, request: TrainingRequest) -> bool:
        """Whether all epochs are trained, or early stopping's patience has run out."""
        stopping = request.early_stopping
        waited = self.epoch - self.best_epoch
        stopped = stopping is not None and self.epoch > 0 and waited >= stopping.patience
        return stopped or self.epoch >= request.hyperparameters.epochs

    def content(self) -> dict[str, Any]:
        """The entries that a checkpoint keeps."""
        return {"epoch": self.epoch, "bestEpoch": self.best_epoch, "best": list(self.best)}

    @staticmethod
    def of(content: Mapping[str, Any]) -> Progress:
        """The progress from the entries of a checkpoint."""
        return Progress(content["epoch"], content["bestEpoch"], tuple(content["best"]))
