"""Semantic segmentation in serving: a class for each pixel, or none, of a network ``[classes + 1, height, width]``.

Its maps cover the canvas, in cells of any size: for each cell the scores of all classes in [0, 1], and last that of none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving import geometry, maps
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.maps import NumberMap
from pelagos_pipelines.serving.predictions import Floats, Prediction, Settings, Thresholds
from pelagos_pipelines.serving.tasks.strategy import Strategy

VALUES = 16_384
"""Numbers in a sketch, about."""
UNDECIDED = 0.005
"""Networks that look where their masks are above one half (Mask2Former) look elsewhere when a last digit tips a cell."""


@dataclass(frozen=True)
class ClassMap(Prediction):
    """Of each pixel of one image the index of its class and one more, or maps.NONE."""

    task = "SemanticSegmentation"
    classes: NumberMap

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """With the classes that there are, the one with most pixels first, and what is left."""
        total = self.width * self.height
        areas = self.classes.areas
        none = areas.pop(maps.NONE, 0)
        entries: list[tuple[int, dict[str, Any]]] = [
            (
                number,
                {"label": labels[number - 1], "classId": number - 1, "area": area, "share": round(area / total, 6)},
            )
            for number, area in sorted(areas.items(), key=lambda pair: -pair[1])
        ]
        found, whole = maps.told(self.classes, entries)
        return {
            "task": self.task,
            "width": self.width,
            "height": self.height,
            "cut": not whole,
            SemanticSegmentationTask.results: found,
            "unclassified": {"area": none, "share": round(none / total, 6)},
        }


class SemanticSegmentationTask(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, results = ClassMap.task, "classes"

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """Of the smallest letterbox."""
        return letterbox(width, height, size, stride)

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """In the smallest letterbox."""
        return fitted(image, size, stride)

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """In [0, 1]."""
        return values(canvases)

    def decode(self, raw: Floats, image: Fitted, settings: Settings, thresholds: Thresholds) -> ClassMap:
        """The highest score of each pixel, between the centres of cells bilinear; thresholds do not apply."""
        none = len(raw) - 1
        found: Any = np.empty((image.height, image.width), np.uint16)
        for band in maps.bands(image, settings, raw.shape[1:]):
            best = band.sampled(raw[none])
            numbers: Any = np.full(best.shape, maps.NONE, np.uint16)
            for index in range(none):
                scores = band.sampled(raw[index])
                higher = scores > best
                best[higher], numbers[higher] = scores[higher], index + 1
            found[band.top : band.top + len(numbers)] = numbers
        return ClassMap(image.width, image.height, NumberMap.of(found))

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """The map of each image as PNG in base64, and the pixels of each class; of a refused image no bytes, and no pixels."""
        areas: Any = np.zeros((len(predictions), len(labels)), np.int64)
        for index, found in enumerate(predictions):
            for number, area in ({} if found is None else found.classes.areas).items():
                if number != maps.NONE:
                    areas[index, number - 1] = area
        pictures = maps.tensor([None if found is None else found.classes for found in predictions])
        return {"class_map": pictures, "areas": areas}

    def refused(self, why: str) -> dict[str, Any]:
        """Likewise, with no pixel that is of no class."""
        return {**super().refused(why), "cut": False, "unclassified": {"area": 0, "share": 0.0}}

    def rows(self, raw: Floats) -> dict[str, Any]:
        """``scores``, a row for each class; that of none follows from them."""
        return {"scores": raw[:-1].reshape(len(raw) - 1, -1).astype(np.float64)}

    def sketch(self, raw: Floats) -> dict[str, Any]:
        """Some cells, evenly spread."""
        return {kind: spread(rows) for kind, rows in self.rows(raw).items()}

    def rounding(self, raw: Floats) -> dict[str, Any]:
        """The same for all."""
        return {"scores": np.full(len(raw) - 1, UNDECIDED)}


def letterbox(width: int, height: int, size: int, stride: int) -> tuple[int, int]:
    """Height and width of the smallest canvas."""
    at = geometry.fit(width, height, size, stride)
    return at.canvas_height, at.canvas_width


def fitted(image: Pixels, size: int, stride: int) -> Fitted:
    """The image on it; shrinking averages, so that thin organisms do not vanish."""
    return Fitted(geometry.letterboxed(image, size, stride), image.shape[1], image.shape[0])


def values(canvases: npt.NDArray[Any]) -> Floats:
    """Red first, in [0, 1]."""
    found = canvases[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C")
    found /= np.float32(255)
    return found


def spread(rows: Any) -> Any:
    """Some numbers of each row, evenly spread."""
    count = rows.shape[1]
    return rows[:, np.linspace(0, count - 1, min(max(VALUES // max(len(rows), 1), 4), count)).astype(int)]


STRATEGY = SemanticSegmentationTask()
