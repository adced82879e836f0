"""What a task says about evaluation: which metrics a model has, and what can be drawn of its predictions.

Called by evaluation.report with predictions in pixels of the original images. Strategies know no training framework.
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
    """A task in evaluation. Predictions are of the kind that serving's strategy of the same task makes.

    ``confidence``: the threshold of the predictions that are measured; None: the lowest that there is. ``claimed``: what each of
    its `claims` is about.
    """

    task: Task
    confidence: float | None = None
    tables: Mapping[str, Mapping[str, str]]
    """What `evidence` makes: tables by name, and of each the columns with their types, of numpy."""
    claimed: str = "images"

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.value

    @abstractmethod
    def measure(
        self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """Metrics of the test split, those in the task's description; NaN for one that the split says nothing about.

        Figures go to ``folder``.
        """

    @abstractmethod
    def evidence(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> dict[str, Table]:
        """What the model did with each image, see evaluation.evidence."""

    @abstractmethod
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """What makes metrics of evidence: all that `measure` has and that are of no class, by their names without a split.

        It takes how often each image stands in each of many multisets, whole numbers ``[multisets, images]``, and gives what
        `measure` says of these images, ``[multisets]``.
        """

    def doubts(self, labels: Sequence[str]) -> list[str]:
        """What the classes of a dataset alone say against its metrics."""
        return []

    def without_faint(self, predicted: Any) -> Any:
        """What `doubtful` looks at of a prediction."""
        return predicted

    def doubtful(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> list[Doubt]:
        """Labels of images that it was not trained on, and that the model doubts; of each kind the clearest first."""
        return []

    def claims(self, samples: Sequence[Sample], found: Sequence[Any], classes: int) -> Claims | None:
        """What predictions before any scaling claim, and whether it is so, see evaluation.calibration.

        None for a task whose predictions have no confidence that says how often they are right.
        """
        return None

    def limits(
        self, truth: GroundTruth, found: Sequence[Any], metrics: Mapping[str, float | None], most: int
    ) -> list[str]:
        """What metrics do not see because no more than ``most`` objects of an image are reported."""
        return []


def by_class(values: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float]:
    """Metrics with one value per class, by their names."""
    return {
        of_test(metric, labels[index]): float(value)
        for metric, per_class in values.items()
        for index, value in enumerate(per_class)
    }


def measured(shares: Mapping[str, Share], labels: Sequence[str]) -> dict[str, float]:
    """Metrics that are shares, of each class and of all, by their names."""
    means = {of_test(name): float(value) for name, value in averages(shares).items()}
    return means | by_class({name: share.by_class for name, share in shares.items()}, labels)
