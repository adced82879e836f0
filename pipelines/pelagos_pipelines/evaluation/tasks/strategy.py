"""The interface of task-specific evaluation: metrics of a model, and figures of its predictions.

Called by evaluation.report with predictions in pixels of the original images. Independent of training frameworks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation.calibration import Claims
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.doubts import Doubt
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.evaluation.shares import Share, averages


class Strategy(ABC):
    """Evaluation of one task. Predictions are those of serving's strategy for the same task.

    ``confidence``: the threshold of the measured predictions; None: the lowest possible. ``claimed``: the subject of each of its
    `claims`.
    """

    task: Task
    confidence: float | None = None
    tables: Mapping[str, Mapping[str, str]]
    """The form of `evidence`: tables by name, each with its columns and their numpy types."""
    claimed: str = "images"

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.value

    @abstractmethod
    def measure(
        self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """The metrics in the task's description on the test split; NaN for undefined ones. Figures are written to ``folder``."""

    @abstractmethod
    def evidence(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> dict[str, Table]:
        """The model's results on each image, see evaluation.evidence."""

    @abstractmethod
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """A function that computes metrics from evidence: those of `measure` without single classes, by names without a split.

        It takes the multiplicity of each image in each of many multisets, integers ``[multisets, images]``, and returns the
        values that `measure` would have for these images, ``[multisets]``.
        """

    def doubts(self, labels: Sequence[str]) -> list[str]:
        """Warnings about metrics that follow from the classes of a dataset alone."""
        return []

    def without_faint(self, predicted: Any) -> Any:
        """The part of a prediction that `doubtful` uses."""
        return predicted

    def doubtful(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> list[Doubt]:
        """Doubted labels of images that the model was not trained on, clearest first within each kind."""
        return []

    def claims(self, samples: Sequence[Sample], found: Sequence[Any], classes: int) -> Claims | None:
        """The claims of unscaled predictions, and whether they are right, see evaluation.calibration.

        None for a task whose predictions have no confidence in that sense.
        """
        return None

    def limits(
        self, truth: GroundTruth, found: Sequence[Any], metrics: Mapping[str, float | None], most: int
    ) -> list[str]:
        """Warnings about the limit of ``most`` reported objects per image, which metrics do not show."""
        return []


def by_class(values: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float]:
    """Metrics with a value per class, by their names, without undefined ones."""
    return {
        of_test(metric, labels[index]): float(value)
        for metric, per_class in values.items()
        for index, value in enumerate(per_class)
    }


def measured(shares: Mapping[str, Share], labels: Sequence[str]) -> dict[str, float]:
    """Metrics that are shares, by class and averaged, by their names."""
    means = {of_test(name): float(value) for name, value in averages(shares).items()}
    return means | by_class({name: share.by_class for name, share in shares.items()}, labels)
