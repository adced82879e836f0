"""A package's settings of its model, the thresholds for its outputs, and the base class of all predictions.

Used by everything that predicts: predictor.py, the strategies of tasks, the families of the training. It may import only numpy,
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
"""A network's output for one image: an array, or a tuple of arrays, in order, for a graph with several outputs."""

MAX_DETECTIONS = 3_000
"""The default of the most detections per image, the same as for spec.maxDetections and spec.evaluation.maxDetections."""


@dataclass(frozen=True)
class Scaling:
    """The calibration of scores, see calibration. ``offset`` applies only to scores that are separate probabilities."""

    temperature: float
    offset: float = 0.0


@dataclass(frozen=True)
class Settings:
    """A package's settings of its model. ``image_size`` and ``stride`` are in pixels, ``color`` is one of color.METHODS.

    ``tile`` has size and overlap, in pixels, of the tiles into which clients should cut larger images. ``longest`` is the longer
    side, in pixels, to which larger images are reduced before a model sees them. ``head`` is the kind of outputs, one of
    tasks.HEADS, for tasks whose families differ in that. ``stuff`` has the labels of classes that have an extent and no objects.
    ``scaling`` calibrates scores; ``confidences`` are thresholds, by label, for calibrated scores.
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
    """Thresholds that turn a detector's raw output into detections. Defaults are those of ``YOLO.predict``, except its 300
    detections: images of plankton and of the sea floor show thousands of organisms.

    ``by_class`` has a confidence for each class, by index, which replaces ``confidence``.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = MAX_DETECTIONS
    by_class: tuple[float, ...] | None = None

    def least(self, class_ids: npt.NDArray[Any]) -> Any:
        """The confidence that a score must exceed, for each of these classes."""
        return self.confidence if self.by_class is None else np.asarray(self.by_class)[class_ids]

    def passed(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """A mask ``[n]`` of the columns of ``scores`` ``[classes, n]`` whose best class exceeds its threshold."""
        best = scores.max(axis=0)
        found: npt.NDArray[np.bool_] = best > (
            self.confidence if self.by_class is None else self.least(scores.argmax(axis=0))
        )
        return found

    def of(self, labels: Sequence[str], confidences: Mapping[str, float] | None) -> Self:
        """The thresholds with confidences by label, if any; other classes keep ``confidence``."""
        if not confidences:
            return self
        return replace(self, by_class=tuple(confidences.get(label, self.confidence) for label in labels))


@dataclass(frozen=True)
class Prediction(ABC):
    """A model's prediction for one image of ``width`` x ``height`` pixels, the original's size. Each task has a subclass."""

    task: ClassVar[str]
    width: int
    height: int

    @property
    def is_cut(self) -> bool:
        """Whether there were more results than are kept."""
        return False

    def told(self, thresholds: Thresholds, scaling: Scaling | None) -> Self:
        """The prediction with calibrated scores, after applying the thresholds of classes.

        Unchanged for tasks that have neither.
        """
        return self

    @abstractmethod
    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """The JSON form of the service contract. Boxes are rounded to 0.01 pixels, scores and probabilities to six digits."""
