"""What a task says about serving: how an image gets to its networks, and what their outputs mean.

Called by the predictor, by the child that decodes images, by model.py for its responses, and by the export, which compares what
comes out of networks. Strategies may know numpy, OpenCV, pelagos_contract.suppression and run_lengths, and of serving
calibration, geometry, maps, predictions and sketches only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy.typing as npt

from pelagos_pipelines.serving import calibration
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Floats, Prediction, Raw, Scaling, Settings, Thresholds


class Strategy(ABC):
    """A task in serving. ``results`` is the field of a rendered prediction that holds what was found."""

    task: ClassVar[str]
    results: ClassVar[str]
    at_once: ClassVar[int | None] = None
    """How many images a graph takes at once, at most; None: any number."""

    @abstractmethod
    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """Height and width of the canvas that `fitted` gives an image."""

    @abstractmethod
    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image on the canvas of a model."""

    @abstractmethod
    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Decoded images ``[n, h, w, 3]`` blue first as the network's input ``[n, 3, h, w]`` red first."""

    def asked(self, thresholds: Thresholds, scaling: Scaling | None) -> Thresholds:
        """What `decode` is to ask of a network's own scores, so that ``thresholds`` hold once they are scaled."""
        return calibration.undone(thresholds, scaling)

    @abstractmethod
    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Prediction:
        """What the network's output for one image says of it."""

    @abstractmethod
    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """The typed outputs of a server for a batch of its predictions; None stands for an image that was refused."""

    def refused(self, why: str) -> dict[str, Any]:
        """In the place of an image that was refused, beside others that were not: as one without results, and why."""
        return {"task": self.task, "width": 0, "height": 0, self.results: [], "error": why}

    # --- what a network gives before any threshold: see sketches.py

    @abstractmethod
    def rows(self, raw: Raw) -> dict[str, Any]:
        """The output as rows of numbers that can be compared, by kind."""

    @abstractmethod
    def sketch(self, raw: Raw) -> dict[str, Any]:
        """Some of these rows, in few numbers."""

    @abstractmethod
    def rounding(self, raw: Raw) -> dict[str, Any]:
        """What float32 leaves undecided of each row, as root mean squares: a right network may be that far away.

        Runtimes compute a score to some units of the last digit of 1, which is much of a small score.
        """
