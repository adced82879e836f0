"""Translates predictions of a model to the classes of a dataset that differ from its own, or are in another order.

Called by the evaluation of packages. Classes with the same name are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.serving.predictions import Prediction
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections


class DifferentClassesError(Exception):
    """The classes have no name in common, or the predictions cannot be translated; the message says what to do."""


@dataclass(frozen=True)
class Relabelling:
    """``labels`` are the dataset's, followed by those that only the model has; ``places`` are the model's classes in them.

    ``warnings`` explain the effect on metrics.
    """

    labels: tuple[str, ...]
    places: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        """Whether nothing changes."""
        return self.places == tuple(range(len(self.labels)))

    def of(self, found: Prediction) -> Prediction:
        """The prediction in the dataset's classes. Raises DifferentClassesError for a kind that cannot be translated."""
        if self.is_none:
            return found
        places: Any = np.array(self.places)
        if isinstance(found, Detections):
            return replace(found, class_ids=places[found.class_ids].astype(np.int32))
        if isinstance(found, Classification):
            probabilities: Any = np.zeros(len(self.labels), np.float32)
            probabilities[places] = found.probabilities
            return replace(found, probabilities=probabilities)
        raise DifferentClassesError(
            f"the classes of the model are others than those of the dataset, which cannot be translated for {found.task}"
        )


def between(model: Sequence[str], dataset: Sequence[str]) -> Relabelling:
    """The translation from a model's classes to a dataset's. Raises DifferentClassesError when no name is in both."""
    more, lacking = [name for name in model if name not in dataset], [name for name in dataset if name not in model]
    if len(lacking) == len(dataset):
        raise DifferentClassesError(
            f"no class of the model is one of the dataset: the model has {format_names(list(model))}, the dataset"
            f" {format_names(list(dataset))}. Import the model with the dataset's names in --classes, or rename the dataset's"
            " (spec.labels.rename)"
        )
    labels = (*dataset, *more)
    warnings = []
    if lacking:
        warnings.append(
            f"the model does not know {len(lacking)} of {len(dataset)} classes of the dataset, and finds none of them:"
            f" {format_names(lacking)}"
        )
    if more:
        warnings.append(
            f"the model knows {len(more)} classes that the dataset has not, and has no metrics of them: {format_names(more)}"
        )
    return Relabelling(labels, tuple(labels.index(name) for name in model), tuple(warnings))
