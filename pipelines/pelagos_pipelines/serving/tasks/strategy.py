"""The interface of a task in serving: how images are preprocessed for its networks, and what their outputs mean.

Called by the predictor, by the child that decodes images, by model.py for its responses, and by the export, which compares the
outputs of networks. Strategies may import only numpy, OpenCV, pelagos_contract.suppression and run_lengths, and calibration,
geometry, maps, predictions and sketches of serving.
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
    """A task in serving. ``results`` is the field of a rendered prediction that holds the list of results."""

    task: ClassVar[str]
    results: ClassVar[str]
    at_once: ClassVar[int | None] = None
    """The largest batch size of graphs; None for any."""

    @abstractmethod
    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """Height and width of the canvas on which `fitted` puts an image of this size."""

    @abstractmethod
    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image on a model's canvas."""

    @abstractmethod
    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Canvases ``[n, h, w, 3]``, blue first, as the network's input ``[n, 3, h, w]``, red first."""

    def asked(self, thresholds: Thresholds, scaling: Scaling | None) -> Thresholds:
        """The thresholds that `decode` must apply to a network's own scores, so that ``thresholds`` hold after calibration."""
        return calibration.undone(thresholds, scaling)

    @abstractmethod
    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Prediction:
        """Decode the network's output for one image."""

    @abstractmethod
    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """The server's typed outputs for a batch of predictions; None stands for a refused image."""

    def refused(self, why: str) -> dict[str, Any]:
        """The rendered answer for a refused image among others: no results, and the reason."""
        return {"task": self.task, "width": 0, "height": 0, self.results: [], "error": why}

    # --- a network's output before any threshold: see sketches.py

    @abstractmethod
    def rows(self, raw: Raw) -> dict[str, Any]:
        """The output as rows of comparable numbers, by kind."""

    @abstractmethod
    def sketch(self, raw: Raw) -> dict[str, Any]:
        """A few numbers that summarise the rows, by kind."""

    @abstractmethod
    def rounding(self, raw: Raw) -> dict[str, Any]:
        """The uncertainty of each row in float32, as root mean squares: a correct network may differ by that much.

        Runtimes compute a score to a few units in the last place of 1, which is a large part of a small score.
        """
