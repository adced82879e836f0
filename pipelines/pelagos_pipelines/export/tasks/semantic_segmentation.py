"""Export for semantic segmentation: compared by the share of pixels whose class differs."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from pelagos_contract.tasks import Task
from pelagos_pipelines.export.tasks.strategy import Strategy
from pelagos_pipelines.serving.predictions import Floats, Thresholds
from pelagos_pipelines.serving.tasks.semantic_segmentation import ClassMap


class SemanticSegmentation(Strategy):
    """Implements `Strategy`, which documents its methods, for the export of networks for semantic segmentation."""

    task, has_thresholds = Task.SEMANTIC_SEGMENTATION, False

    @override
    def places_and_scores(self, raw: Floats) -> tuple[Floats, Floats]:
        """No places: all values are scores."""
        return raw[:0], raw

    @override
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of the class whose scores the row has."""
        return f"class {labels[index]!r}"

    @override
    def distance(self, theirs: ClassMap, ours: ClassMap, confidence: float, number: int) -> tuple[float, float]:
        """In place of a score, the share of pixels whose class differs."""
        return 0.0, float((theirs.classes.pixels != ours.classes.pixels).mean())

    @override
    def surest(self, prediction: ClassMap) -> float:
        """0, since no threshold depends on it."""
        return 0.0

    @override
    def worth(self, known: ClassMap, thresholds: Thresholds) -> tuple[bool, float]:
        """Always clear; the best map has one class on half of its pixels and others, or none, on the other half."""
        largest = max(known.classes.areas.values()) / (known.width * known.height)
        return True, 1 - max(largest, 1 - largest)


STRATEGY = SemanticSegmentation()
