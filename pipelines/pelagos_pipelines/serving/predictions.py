"""What a package says of its model, what its outputs are judged by, and what all predictions have in common.

Called by everything that predicts: predictor.py, the strategies of tasks, the families of the training. It may know numpy only,
and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int32]
Raw: TypeAlias = Any
"""What a network gives for one image: an array, or a tuple of arrays for a graph with several outputs, in their order."""

MAX_DETECTIONS = 3_000
"""Of one image, where nothing else is said; spec.maxDetections and spec.evaluation.maxDetections have the same default."""


@dataclass(frozen=True)
class Scaling:
    """What makes scores say how often they are right, see calibration. ``offset`` is of scores alone that do not add up to 1."""

    temperature: float
    offset: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What a package says about its model. ``image_size`` and ``stride`` are in pixels, ``color`` is one of color.METHODS.

    ``tile`` are size and overlap of the tiles, in pixels, that larger images are to be cut into by whoever asks. ``longest``
    is the longer side, in pixels, to which larger images are reduced before a model sees them. ``head`` is what its outputs are,
    of a task whose families differ in that: one of tasks.HEADS. ``stuff``: labels of classes that have an extent and no objects.
    ``scaling``: of its scores, when they are told. ``confidences``: what those of classes must reach then, by label.
    """

    task: str
    labels: tuple[str, ...]
    image_size: int
    stride: int
    color: str | None = None
    tile: tuple[int, int] | None = None
    longest: int | None = None
    head: str | None = None
    stuff: tuple[str, ...] = ()
    scaling: Scaling | None = None
    confidences: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Thresholds:
    """What turns raw detector output into detections; the defaults are those of ``YOLO.predict``, but for its 300 detections.

    Images of plankton and of the sea floor show thousands of organisms. ``by_class``: what is asked of each class, by its index,
    in the place of ``confidence``.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = MAX_DETECTIONS
    by_class: tuple[float, ...] | None = None

    def least(self, class_ids: Any) -> Any:
        """The confidence that those of these classes must have more than."""
        return self.confidence if self.by_class is None else np.asarray(self.by_class)[class_ids]

    def passed(self, scores: Any) -> Any:
        """Which of ``scores`` ``[classes, n]`` have a best class that is told: ``[n]``."""
        best = scores.max(axis=0)
        return best > (self.confidence if self.by_class is None else self.least(scores.argmax(axis=0)))

    def of(self, labels: Sequence[str], confidences: Mapping[str, float] | None) -> Self:
        """With the confidences of the classes that have one, where there are some."""
        if not confidences:
            return self
        return replace(self, by_class=tuple(confidences.get(label, self.confidence) for label in labels))


@dataclass(frozen=True)
class Prediction(ABC):
    """What a model says of one image, of which ``width`` and ``height`` are those of the original. Each task has its kind."""

    task: ClassVar[str]
    width: int
    height: int

    @property
    def is_cut(self) -> bool:
        """Whether there is more to say, and only the best was kept."""
        return False

    def told(self, thresholds: Thresholds, scaling: Scaling | None) -> Self:
        """With scores that are scaled, and held against what ``thresholds`` ask of each class.

        Nothing else for tasks that have neither.
        """
        return self

    @abstractmethod
    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """The JSON shape of the service contract. Boxes keep a hundredth of a pixel, scores and probabilities six digits."""
