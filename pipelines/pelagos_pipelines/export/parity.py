"""The proof that the exported model predicts what the training framework predicts, through the code that will serve it.

Called by the step export with what both sides make of the same images, in the same order. What decides is what the networks give
before suppression: of a model that is sure of nothing, suppression makes other boxes of a difference in the last digit. That the
framework's own numbers are decoded as the framework does is compared for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Parity
from pelagos_pipelines.serving import sketches
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictor import Classification, Detections, Floats, Prediction

BOX_TOLERANCE = 1.0
SCORE_TOLERANCE = 0.01
"""Of what is decoded: in pixels of the original image, and in [0, 1]."""
SHARE = 0.1
"""How much of its answer to noise of one grey level a network's outputs may be apart, beside rounding."""


def compare_outputs(
    trained: Sequence[Floats],
    exported: Sequence[Floats],
    noisy: Sequence[Floats],
    *,
    task: str,
    labels: Sequence[str],
) -> Parity:
    """The largest differences of the networks' outputs over all images; boxes in pixels of the canvas.

    Args:
        trained: what the training framework's network gives for each image.
        exported: what the exported graph gives.
        noisy: what the exported graph gives for the images with noise, see `with_noise`.
        task: what the network does.
        labels: of its classes.

    Raises:
        RefusedError: PARITY_FAILED when a row of the outputs, a coordinate or a class, is further apart than what may be.
    """
    boxes, scores = 0.0, 0.0
    for number, (theirs, ours, shaken) in enumerate(zip(trained, exported, noisy, strict=True), start=1):
        if theirs.shape != ours.shape:
            raise _failed(f"image {number}: its outputs have the shape {ours.shape} instead of {theirs.shape}")
        known = sketches.rows(theirs, task)
        response = sketches.distances(sketches.rows(shaken, task), sketches.rows(ours, task))
        undecided = sketches.rounding(theirs, task)
        for kind, found in sketches.distances(sketches.rows(ours, task), known).items():
            allowed = float(undecided[kind].max()) + SHARE * float(response[kind].max())
            worst = int(found.argmax())
            if not found[worst] <= allowed:
                name = f"class {labels[worst]!r}" if kind == "scores" else f"{'xywh'[worst]} of the boxes"
                raise _failed(
                    f"image {number}: before suppression, {name} differs by {found[worst]:.4g} on average, and at most "
                    f"{allowed:.4g} can be rounding"
                )
        first = 0 if task == "Classification" else 4
        boxes = max(boxes, float(np.abs(theirs[:first] - ours[:first]).max(initial=0)))
        scores = max(scores, float(np.abs(theirs[first:] - ours[first:]).max()))
    return Parity(images=len(trained), boxes=boxes, scores=scores)


def with_noise(image: Fitted) -> Fitted:
    """The image with each value changed by at most one grey level, always in the same way."""
    noise = np.random.default_rng(0).integers(-1, 2, image.canvas.shape)
    return replace(image, canvas=np.clip(image.canvas.astype(int) + noise, 0, 255).astype(np.uint8))


def require_labels(trained: Sequence[str], exported: Sequence[str]) -> None:
    """Raises RefusedError when the exported model's classes are not those that were trained on, in their order."""
    if list(trained) != list(exported):
        raise _failed(f"its classes are {', '.join(exported)} instead of {', '.join(trained)}")


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
        raise _failed(
            f"boxes differ by up to {boxes:.3f} pixels and scores by up to {scores:.4f}; allowed are {BOX_TOLERANCE:.0f} pixel "
            f"and {SCORE_TOLERANCE}"
        )
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
        f"the exported model does not predict what the trained one predicts: {difference}. "
        "Train again; if it persists, report the architecture and image size",
    )
