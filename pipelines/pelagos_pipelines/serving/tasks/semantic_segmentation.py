"""Semantic segmentation in serving: a class or none for each pixel, from a network's maps ``[classes + 1, height, width]``.

The maps cover the canvas in cells of any size. Each cell has the scores of all classes in [0, 1], followed by that of no class.
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
"""About how many numbers a sketch has."""
UNDECIDED = 0.005
"""The uncertainty of scores: networks that attend where their masks exceed one half (Mask2Former) attend elsewhere when a cell is
tipped by its last digit."""


@dataclass(frozen=True)
class ClassMap(Prediction):
    """For each pixel of one image, the index of its class plus 1, or maps.NONE."""

    task = "SemanticSegmentation"
    classes: NumberMap

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """The classes that occur, the one with the most pixels first, and the pixels without a class."""
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
    """Implements `Strategy`, which documents its methods, for semantic segmentation."""

    task, results = ClassMap.task, "classes"

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """The sides of the smallest letterbox."""
        return letterbox(width, height, size, stride)

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image in the smallest letterbox."""
        return fitted(image, size, stride)

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Values in [0, 1]."""
        return values(canvases)

    def decode(self, raw: Floats, image: Fitted, settings: Settings, thresholds: Thresholds) -> ClassMap:
        """The class with the highest score at each pixel, interpolated bilinearly between cells. Thresholds do not apply."""
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
        """Each image's map as PNG in base64, and the pixels of each class; an empty map and no pixels for a refused image."""
        areas: Any = np.zeros((len(predictions), len(labels)), np.int64)
        for index, found in enumerate(predictions):
            for number, area in ({} if found is None else found.classes.areas).items():
                if number != maps.NONE:
                    areas[index, number - 1] = area
        pictures = maps.tensor([None if found is None else found.classes for found in predictions])
        return {"class_map": pictures, "areas": areas}

    def refused(self, why: str) -> dict[str, Any]:
        """The result of `Strategy.refused`, with no unclassified pixels."""
        return {**super().refused(why), "cut": False, "unclassified": {"area": 0, "share": 0.0}}

    def rows(self, raw: Floats) -> dict[str, Any]:
        """``scores``, a row for each class; the score of no class follows from them."""
        return {"scores": raw[:-1].reshape(len(raw) - 1, -1).astype(np.float64)}

    def sketch(self, raw: Floats) -> dict[str, Any]:
        """Some cells, evenly spread."""
        return {kind: spread(rows) for kind, rows in self.rows(raw).items()}

    def rounding(self, raw: Floats) -> dict[str, Any]:
        """The same uncertainty for all rows."""
        return {"scores": np.full(len(raw) - 1, UNDECIDED)}


def letterbox(width: int, height: int, size: int, stride: int) -> tuple[int, int]:
    """Height and width of the smallest letterbox."""
    at = geometry.fit(width, height, size, stride)
    return at.canvas_height, at.canvas_width


def fitted(image: Pixels, size: int, stride: int) -> Fitted:
    """The image in the smallest letterbox. Shrinking averages pixels, so that thin organisms do not vanish."""
    return Fitted(geometry.letterboxed(image, size, stride), image.shape[1], image.shape[0])


def values(canvases: npt.NDArray[Any]) -> Floats:
    """The network's input for canvases: red first, values in [0, 1]."""
    found = canvases[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C")
    found /= np.float32(255)
    return found


def spread(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Some numbers of each row, evenly spread."""
    count = rows.shape[1]
    return rows[:, np.linspace(0, count - 1, min(max(VALUES // max(len(rows), 1), 4), count)).astype(int)]


STRATEGY = SemanticSegmentationTask()
