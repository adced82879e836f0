"""The proof that the exported model predicts what the training framework predicts, through the code that will serve it.

Called by the export task with predictions of both sides for the same images, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pelagos_pipelines.contract import Parity, Reason, RefusedError
from pelagos_pipelines.serving.predictor import Classification, Detections, Prediction

BOX_TOLERANCE = 1.0
SCORE_TOLERANCE = 0.01
"""In pixels of the original image, and in [0, 1]."""


def compare(expected: Sequence[Prediction], served: Sequence[Prediction], confidence: float) -> Parity:
    """The largest differences over all images.

    Args:
        expected: what the training framework predicts.
        served: what the exported model predicts.
        confidence: threshold of both sides; a detection within ``SCORE_TOLERANCE`` above it may be missing on the other.

    Raises:
        RefusedError: PARITY_FAILED when a difference is above its tolerance, or a detection has no counterpart.
    """
    boxes, scores = 0.0, 0.0
    for number, (theirs, ours) in enumerate(zip(expected, served, strict=True), start=1):
        if isinstance(theirs, Classification) and isinstance(ours, Classification):
            scores = max(scores, float(np.abs(theirs.probabilities - ours.probabilities).max()))
        elif isinstance(theirs, Detections) and isinstance(ours, Detections):
            box, value = _distance(theirs, ours, confidence, number)
            boxes, scores = max(boxes, box), max(scores, value)
        else:
            raise _failed(f"image {number}: one side classifies and the other detects")
    if boxes > BOX_TOLERANCE or scores > SCORE_TOLERANCE:
        raise _failed(f"boxes differ by up to {boxes:.3f} pixels and scores by up to {scores:.4f}")
    return Parity(images=len(expected), boxes=boxes, scores=scores)


def _distance(theirs: Detections, ours: Detections, confidence: float, number: int) -> tuple[float, float]:
    """Largest difference of box coordinates in pixels and of scores, over detections paired within their class."""
    boxes, scores = 0.0, 0.0
    paired: tuple[set[int], set[int]] = (set(), set())
    for class_id in set(theirs.class_ids.tolist()) | set(ours.class_ids.tolist()):
        left, right = np.flatnonzero(theirs.class_ids == class_id), np.flatnonzero(ours.class_ids == class_id)
        apart: Any = np.abs(theirs.boxes[left][:, None] - ours.boxes[right][None]).max(axis=2)
        differ: Any = np.abs(theirs.scores[left][:, None] - ours.scores[right][None])
        for row, column in _pairs(apart / BOX_TOLERANCE + differ / SCORE_TOLERANCE):
            boxes, scores = max(boxes, float(apart[row, column])), max(scores, float(differ[row, column]))
            paired[0].add(int(left[row]))
            paired[1].add(int(right[column]))
    for side, found, seen in (("training", theirs, paired[0]), ("exported", ours, paired[1])):
        alone = [i for i, score in enumerate(found.scores) if i not in seen and score > confidence + SCORE_TOLERANCE]
        if alone:
            raise _failed(f"image {number}: the {side} model alone finds {len(alone)} of {len(found.scores)} boxes")
    return boxes, scores


def _pairs(distances: Any) -> Iterator[tuple[int, int]]:
    """Rows and columns of a matrix, nearest first, each once. Overlap would not do: a box cut off at the border has none."""
    rows, columns = set(range(distances.shape[0])), set(range(distances.shape[1]))
    for place in np.argsort(distances, axis=None, kind="stable"):
        row, column = divmod(int(place), distances.shape[1])
        if row in rows and column in columns:
            rows.discard(row)
            columns.discard(column)
            yield row, column


def _failed(difference: str) -> RefusedError:
    return RefusedError(
        Reason.PARITY_FAILED,
        f"the exported model does not predict what the trained one predicts: {difference}; allowed are {BOX_TOLERANCE:.0f} pixel"
        f" and {SCORE_TOLERANCE}. Train again; if it persists, report the architecture and image size",
    )
