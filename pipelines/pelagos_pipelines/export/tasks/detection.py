"""Export of detectors: boxes are paired within their class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from pelagos_contract.tasks import Task
from pelagos_pipelines.export.differences import BOX_TOLERANCE, SCORE_TOLERANCE, failed
from pelagos_pipelines.export.tasks.strategy import Strategy
from pelagos_pipelines.serving.predictions import Floats, Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections

MARGIN = 0.02
"""Least distance of known detections from the confidence threshold, so that rounding cannot make one vanish."""


class Detection(Strategy):
    """Implements `Strategy`, which documents its methods, for the export of detectors."""

    task: ClassVar[Task] = Task.DETECTION
    has_thresholds = True

    @override
    def places_and_scores(self, raw: Floats) -> tuple[Floats, Floats]:
        """The first four rows are boxes, the rest are scores."""
        return raw[:4], raw[4:]

    @override
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a class, or of a coordinate of the boxes."""
        return f"class {labels[index]!r}" if kind == "scores" else f"{'xywh'[index]} of the boxes"

    @override
    def distance(self, theirs: Detections, ours: Detections, confidence: float, number: int) -> tuple[float, float]:
        """Largest difference of box coordinates in pixels and of scores, over detections paired within their class."""
        boxes, scores, _ = paired(theirs, ours, confidence, number, self.apart)
        return boxes, scores

    def apart(self, boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The largest difference of coordinates for each pair of boxes, ``[n, m]``."""
        return furthest(boxes, others)

    @override
    def surest(self, prediction: Detections) -> float:
        """The first score, since scores descend; 0 without detections."""
        return float(prediction.scores[0]) if len(prediction.scores) else 0.0

    @override
    def worth(self, known: Detections, thresholds: Thresholds) -> tuple[bool, float]:
        """Clear if no score is near its threshold, ranked by the highest score."""
        clear = (abs(known.scores - thresholds.least(known.class_ids)) > MARGIN).all()
        return bool(clear), float(known.scores.max(initial=0.0))


def furthest(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The largest difference of coordinates for each pair of boxes, ``[n, m]``."""
    found: npt.NDArray[Any] = np.abs(boxes[:, None] - others[None]).max(axis=2)
    return found


def paired(
    theirs: Any, ours: Any, confidence: float, number: int, apart_of: Callable[[Any, Any], Any] = furthest
) -> tuple[float, float, list[tuple[int, int]]]:
    """The largest differences of two sides' boxes and scores, and the index pairs of matching ones within a class.

    Both have ``boxes``, ``scores`` and ``class_ids`` as in `Detections`; ``apart_of`` returns the distances of boxes in pixels.
    Raises:
        RefusedError: PARITY_FAILED for a box of image ``number`` that only one side has.
    """
    boxes, scores, pairs = 0.0, 0.0, list[tuple[int, int]]()
    for class_id in set(theirs.class_ids.tolist()) | set(ours.class_ids.tolist()):
        left, right = np.flatnonzero(theirs.class_ids == class_id), np.flatnonzero(ours.class_ids == class_id)
        apart: Any = apart_of(theirs.boxes[left], ours.boxes[right])
        differ: Any = np.abs(theirs.scores[left][:, None] - ours.scores[right][None])
        for row, column in _pairs(apart / BOX_TOLERANCE + differ / SCORE_TOLERANCE):
            boxes, scores = max(boxes, float(apart[row, column])), max(scores, float(differ[row, column]))
            pairs.append((int(left[row]), int(right[column])))
    for side, found, seen in (
        ("training", theirs, {left for left, _ in pairs}),
        ("exported", ours, {right for _, right in pairs}),
    ):
        alone = [i for i, score in enumerate(found.scores) if i not in seen and score > confidence + SCORE_TOLERANCE]
        if alone:
            raise failed(f"image {number}: the {side} model alone finds {len(alone)} of {len(found.scores)} boxes")
    return boxes, scores, pairs


def _pairs(distances: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Pairs of rows and columns of a matrix, nearest first, each once. IoU is not used, as a box cut off at the border has
    none."""
    rows, columns = set(range(distances.shape[0])), set(range(distances.shape[1]))
    for place in np.argsort(distances, axis=None, kind="stable"):
        row, column = divmod(int(place), distances.shape[1])
        if row in rows and column in columns:
            rows.discard(row)
            columns.discard(column)
            yield row, column


STRATEGY = Detection()
