"""What a package says of its model, what its outputs are judged by, and what all predictions have in common.

Called by everything that predicts: predictor.py, the strategies of tasks, the families of the training. It may know numpy only,
and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int32]
Raw: TypeAlias = Any
"""What a network gives for one image: an array, or a tuple of arrays for a graph with several outputs, in their order."""

MAX_DETECTIONS = 3_000
"""Of one image, where nothing else is said; spec.maxDetections and spec.evaluation.maxDetections have the same default."""


@dataclass(frozen=True)
class Settings:
    """What a package says about its model. ``image_size`` and ``stride`` are in pixels, ``color`` is one of color.METHODS.

    ``tile`` are size and overlap of the tiles, in pixels, that larger images are to be cut into by whoever asks. ``longest``
    is the longer side, in pixels, to which larger images are reduced before a model sees them. ``head`` is what its outputs are,
    of a task whose families differ in that: one of tasks.HEADS. ``stuff``: labels of classes that have an extent and no objects.
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


@dataclass(frozen=True)
class Thresholds:
    """What turns raw detector output into detections; the defaults are those of ``YOLO.predict``, but for its 300 detections.

    Images of plankton and of the sea floor show thousands of organisms.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = MAX_DETECTIONS


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

    @abstractmethod
    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """The JSON shape of the service contract. Boxes keep a hundredth of a pixel, scores and probabilities six digits."""
