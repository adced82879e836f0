"""Classification in serving: a network's probabilities ``[classes]`` for a square canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving import calibration, geometry, sketches
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Floats, Prediction, Scaling, Settings, Thresholds
from pelagos_pipelines.serving.tasks.strategy import Strategy

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's mean and deviation, red first: the scale of published classification checkpoints."""


@dataclass(frozen=True)
class Classification(Prediction):
    """The ``probabilities`` [classes] of one image, which add up to 1.

    The image counts as of the most probable class if its probability exceeds ``threshold``; always if that is None.
    """

    task = "Classification"
    probabilities: Floats
    threshold: float | None = None

    def calibrated(self, scaling: Scaling) -> Self:
        """The prediction with probabilities at the temperature."""
        return replace(self, probabilities=calibration.softened(self.probabilities, scaling.temperature))

    def told(self, thresholds: Thresholds, scaling: Scaling | None) -> Self:
        """The calibrated prediction, with the threshold of the most probable class if there are any."""
        found = self if scaling is None else self.calibrated(scaling)
        if thresholds.by_class is None:
            return found
        return replace(found, threshold=float(thresholds.by_class[int(found.probabilities.argmax())]))

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """All classes, the most probable one first."""
        order = np.argsort(-self.probabilities, kind="stable")
        classes = [
            {"label": labels[i], "classId": int(i), "probability": round(float(self.probabilities[i]), 6)}
            for i in order
        ]
        rendered = {
            "task": self.task,
            "width": self.width,
            "height": self.height,
            ClassificationTask.results: classes,
        }
        if self.threshold is None:
            return rendered
        is_decided = bool(self.probabilities[order[0]] > self.threshold)
        return rendered | {"decided": is_decided, "threshold": round(self.threshold, 6)}


class ClassificationTask(Strategy):
    """Implements `Strategy`, which documents its methods, for classification."""

    task, results = Classification.task, "classes"

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """A square, whatever the stride."""
        at = geometry.fit(width, height, size, size)
        return at.canvas_height, at.canvas_width

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image on a square canvas."""
        return Fitted(geometry.square(image, size), image.shape[1], image.shape[0])

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Canvases normalised by `normalise`."""
        return normalise(canvases)

    def asked(self, thresholds: Thresholds, scaling: Scaling | None) -> Thresholds:
        """The same thresholds: they leave no classes out."""
        return thresholds

    def decode(self, raw: Floats, image: Fitted, settings: Settings, thresholds: Thresholds) -> Classification:
        """The network's output as it is; thresholds leave nothing out."""
        return Classification(image.width, image.height, raw)

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """Probabilities, all 0 for a refused image."""
        nothing: Any = np.zeros(len(labels), np.float32)
        chances = [nothing if found is None else found.probabilities for found in predictions]
        return {"probabilities": np.stack(chances)}

    def rows(self, raw: Floats) -> dict[str, Any]:
        """``scores``, a row for each class, as logarithms of probabilities, so that small ones count as much as large ones."""
        return {"scores": np.log(np.maximum(raw.astype(np.float64), sketches.FAINTEST))[:, None]}

    def sketch(self, raw: Floats) -> dict[str, Any]:
        """All rows."""
        return self.rows(raw)

    def rounding(self, raw: Floats) -> dict[str, Any]:
        """The uncertainty of logarithms, which is larger for small probabilities."""
        return {"scores": sketches.ULPS / np.maximum(raw.astype(np.float64), sketches.FAINTEST)}


def normalise(images: npt.NDArray[np.uint8]) -> Floats:
    """Decoded images ``[n, h, w, 3]``, blue first, as the classifier's input ``[n, 3, h, w]``, red first and normalised."""
    values = (images[..., ::-1].astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


STRATEGY = ClassificationTask()
