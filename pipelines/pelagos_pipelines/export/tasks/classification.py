"""Export of classifiers: probabilities are compared class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from pelagos_contract.tasks import Task
from pelagos_pipelines.export.tasks.strategy import Strategy
from pelagos_pipelines.serving.predictions import Floats, Thresholds
from pelagos_pipelines.serving.tasks.classification import Classification as Found


class Classification(Strategy):
    """Implements `Strategy`, which documents its methods, for the export of classifiers."""

    task, has_thresholds = Task.CLASSIFICATION, False

    @override
    def places_and_scores(self, raw: Floats) -> tuple[Floats, Floats]:
        """No places: all values are scores."""
        return raw[:0], raw

    @override
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of the class whose scores the row has."""
        return f"class {labels[index]!r}"

    @override
    def distance(self, theirs: Found, ours: Found, confidence: float, number: int) -> tuple[float, float]:
        """The largest difference of probabilities."""
        return 0.0, float(np.abs(theirs.probabilities - ours.probabilities).max())

    @override
    def surest(self, prediction: Found) -> float:
        """0, since no threshold depends on it."""
        return 0.0

    @override
    def worth(self, known: Found, thresholds: Thresholds) -> tuple[bool, float]:
        """Always clear, ranked by the highest probability."""
        return True, float(known.probabilities.max())


STRATEGY = Classification()
