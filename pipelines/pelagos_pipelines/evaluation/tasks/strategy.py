"""What a task says about evaluation: which metrics a model has, and what can be drawn of its predictions.

Called by evaluation.report with predictions in pixels of the original images. Strategies know no training framework.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation.doubts import Doubt
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample


class Strategy(ABC):
    """A task in evaluation. Predictions are of the kind that serving's strategy of the same task makes.

    ``confidence``: the threshold of the predictions that are measured; None: the lowest that there is.
    """

    task: Task
    confidence: float | None = None

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

    def doubts(self, labels: Sequence[str]) -> list[str]:
        """What the classes of a dataset alone say against its metrics."""
        return []

    def without_faint(self, predicted: Any) -> Any:
        """What `doubtful` looks at of a prediction."""
        return predicted

    def doubtful(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> list[Doubt]:
        """Labels of images that it was not trained on, and that the model doubts; of each kind the clearest first."""
        return []

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
