"""How far a training is and which epoch is its best, by one rule for all families. Part of every checkpoint.

Families ask it after each epoch; the step reports the best epoch that the family names, whose weights are in ``Job.best``.
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
    """What epochs, and trainings, are compared by; the greater one is the better.

    By the task's metric, if the validation split has it: one without annotations has none, and the loss alone decides.
    """
    return metrics.get(f"validation/{TASKS[task].fitness}", -math.inf), -metrics.get(LOSS, math.inf)


@dataclass(frozen=True)
class Progress:
    """Finished epochs, the best of them, and how fit that one is.

    The best has the highest metric, among equals the lowest loss on the validation split, among equals again it is the first.
    So the weights of a collection that is solved, or not yet begun to be understood, are those of the most certain epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: tuple[float, float] = _NOTHING

    def after(self, metrics: Mapping[str, float], task: Task) -> Progress:
        """With one more epoch of a training for ``task`` that ended with ``metrics``."""
        fit = fitness(metrics, task)
        if self.best_epoch == 0 or fit > self.best:
            return Progress(self.epoch + 1, self.epoch + 1, fit)
        return Progress(self.epoch + 1, self.best_epoch, self.best)

    @property
    def is_best(self) -> bool:
        """Whether the last epoch is the best so far."""
        return 0 < self.epoch == self.best_epoch

    def is_over(self, request: TrainingRequest) -> bool:
        """Whether all epochs are trained, or patience has run out."""
        stopping = request.early_stopping
        waited = self.epoch - self.best_epoch
        stopped = stopping is not None and self.epoch > 0 and waited >= stopping.patience
        return stopped or self.epoch >= request.hyperparameters.epochs

    def content(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"epoch": self.epoch, "bestEpoch": self.best_epoch, "best": list(self.best)}

    @staticmethod
    def of(content: Mapping[str, Any]) -> Progress:
        """From what a checkpoint has kept."""
        return Progress(content["epoch"], content["bestEpoch"], tuple(content["best"]))
