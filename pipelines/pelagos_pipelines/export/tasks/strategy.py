"""What a task says about the export: what of its predictions is compared, and which of them tell most.

Called by export.parity and export.probes. Outputs of networks are those of serving's strategy of the same task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from pelagos_contract.tasks import Task
from pelagos_pipelines.serving.predictions import Floats, Raw, Thresholds


class Strategy(ABC):
    """A task in the export. ``has_thresholds``: its predictions depend on them."""

    task: ClassVar[Task]
    has_thresholds: ClassVar[bool]

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.value

    def headed(self, head: str | None) -> Strategy:
        """The rules for networks with a head, see serving.tasks.HEADS; of a task without heads, itself."""
        return self

    @abstractmethod
    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """A network's output for one image in two: what is in pixels of the canvas, and what is in [0, 1]."""

    @abstractmethod
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a row that serving's strategy makes of an output."""

    @abstractmethod
    def distance(self, theirs: Any, ours: Any, confidence: float, number: int) -> tuple[float, float]:
        """The largest difference of two predictions for image ``number``, in pixels of the original and of scores.

        Raises:
            RefusedError: PARITY_FAILED for something that one side alone has found.
        """

    @abstractmethod
    def surest(self, prediction: Any) -> float:
        """The highest score of what was found; 0 when there is nothing."""

    @abstractmethod
    def worth(self, known: Any, thresholds: Thresholds) -> tuple[bool, float]:
        """How much a prediction tells of a model: first whether no rounding can change it, then its highest score."""

    def known(self, prediction: Any) -> Any:
        """A prediction as the known answer of a package, which has a largest size."""
        return prediction
