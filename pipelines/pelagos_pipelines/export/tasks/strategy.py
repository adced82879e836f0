"""The interface of task-specific parts of the export: how predictions are compared, and which are the best probes.

Called by export.parity and export.probes. Outputs of networks are those of serving's strategy for the same task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from pelagos_contract.tasks import Task
from pelagos_pipelines.serving.predictions import Floats, Raw, Thresholds


class Strategy(ABC):
    """The export of one task. ``has_thresholds``: its predictions depend on thresholds."""

    task: ClassVar[Task]
    has_thresholds: ClassVar[bool]

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.value

    def headed(self, head: str | None) -> Strategy:
        """The strategy for networks with a head, see serving.tasks.HEADS; itself for a task without heads."""
        return self

    @abstractmethod
    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """A network's output for one image, divided into values in pixels of the canvas and values in [0, 1]."""

    @abstractmethod
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a row of an output, for messages."""

    @abstractmethod
    def distance(self, theirs: Any, ours: Any, confidence: float, number: int) -> tuple[float, float]:
        """The largest differences of two predictions for image ``number``, in pixels of the original and of scores.

        Raises:
            RefusedError: PARITY_FAILED for something that only one side has.
        """

    @abstractmethod
    def surest(self, prediction: Any) -> float:
        """The highest score of a prediction; 0 without any."""

    @abstractmethod
    def worth(self, known: Any, thresholds: Thresholds) -> tuple[bool, float]:
        """The value of a prediction as a probe: whether rounding cannot change it, then its highest score."""

    def known(self, prediction: Any) -> Any:
        """The prediction as a package's known answer, reduced to its size limit."""
        return prediction
