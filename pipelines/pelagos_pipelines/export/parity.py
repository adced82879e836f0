"""Proves that the exported model predicts the same as the training framework, through the code that will serve it.

Called by the step export with both sides' results for the same images, in the same order. The raw outputs of the networks before
suppression decide, since for a model without confident predictions, rounding differences change the boxes that survive. Decoding
of the framework's own outputs is compared separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pelagos_contract.training import Parity
from pelagos_pipelines.export.differences import BOX_TOLERANCE, SCORE_TOLERANCE, failed
from pelagos_pipelines.export.tasks import TASKS
from pelagos_pipelines.serving import sketches, tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Prediction, Raw

SHARE = 0.1
"""Tolerated difference, as a share of the outputs' change under noise of one grey level, in addition to rounding."""


def compare_outputs(
    trained: Sequence[Raw],
    exported: Sequence[Raw],
    noisy: Sequence[Raw],
    *,
    task: str,
    labels: Sequence[str],
    head: str | None = None,
) -> Parity:
    """The largest differences of the networks' outputs over all images; boxes in pixels of the canvas.

    Args:
        trained: the outputs of the training framework's network for each image.
        exported: the outputs of the exported graph.
        noisy: the outputs of the exported graph for the images with noise, see `with_noise`.
        task: the task of the network.
        labels: the labels of its classes.
        head: the kind of its outputs, for a task that has several.

    Raises:
        RefusedError: PARITY_FAILED when a row of the outputs, a coordinate or a class, differs by more than its tolerance.
    """
    strategy, serving = TASKS.named(task).headed(head), tasks.named(task, head)
    boxes, scores = 0.0, 0.0
    for number, (theirs, ours, shaken) in enumerate(zip(trained, exported, noisy, strict=True), start=1):
        if shape(theirs) != shape(ours):
            raise failed(f"image {number}: its outputs have the shape {shape(ours)} instead of {shape(theirs)}")
        known = serving.rows(theirs)
        response = sketches.distances(serving.rows(shaken), serving.rows(ours))
        undecided = serving.rounding(theirs)
        for kind, found in sketches.distances(serving.rows(ours), known).items():
            allowed = float(undecided[kind].max()) + SHARE * float(response[kind].max())
            worst = int(found.argmax())
            if not found[worst] <= allowed:
                raise failed(
                    f"image {number}: before suppression, {strategy.row(kind, worst, labels)} differs by {found[worst]:.4g} on "
                    f"average, and at most {allowed:.4g} can be rounding"
                )
        places, values = (
            abs(one - other)
            for one, other in zip(strategy.places_and_scores(theirs), strategy.places_and_scores(ours), strict=True)
        )
        boxes, scores = max(boxes, float(places.max(initial=0))), max(scores, float(values.max()))
    return Parity(images=len(trained), boxes=boxes, scores=scores)


def shape(raw: Raw) -> Any:
    """The shape of an output, or the shapes of several."""
    return tuple(one.shape for one in raw) if isinstance(raw, tuple) else raw.shape


def with_noise(image: Fitted) -> Fitted:
    """The image with each value changed by at most one grey level, deterministically."""
    noise = np.random.default_rng(0).integers(-1, 2, image.canvas.shape)
    return replace(image, canvas=np.clip(image.canvas.astype(int) + noise, 0, 255).astype(np.uint8))


def require_labels(trained: Sequence[str], exported: Sequence[str]) -> None:
    """Raise RefusedError unless the exported model's classes are those of the training, in the same order."""
    if list(trained) != list(exported):
        raise failed(f"its classes are {', '.join(exported)} instead of {', '.join(trained)}")


def compare(expected: Sequence[Prediction], served: Sequence[Prediction], confidence: float) -> Parity:
    """The largest differences of decoded predictions over all images.

    Args:
        expected: the predictions of the training framework.
        served: the predictions of the exported model.
        confidence: threshold of both sides; a detection within ``SCORE_TOLERANCE`` above it may be missing on the other.

    Raises:
        RefusedError: PARITY_FAILED when a difference is above its tolerance, or a detection has no counterpart.
    """
    boxes, scores = 0.0, 0.0
    for number, (theirs, ours) in enumerate(zip(expected, served, strict=True), start=1):
        if theirs.task != ours.task:
            raise failed(f"image {number}: one side's task is {theirs.task}, and the other's {ours.task}")
        box, value = TASKS.named(theirs.task).distance(theirs, ours, confidence, number)
        boxes, scores = max(boxes, box), max(scores, value)
    if boxes > BOX_TOLERANCE or scores > SCORE_TOLERANCE:
        raise failed(
            f"boxes differ by up to {boxes:.3f} pixels and scores by up to {scores:.4f}; allowed are {BOX_TOLERANCE:.0f} pixel "
            f"and {SCORE_TOLERANCE}"
        )
    return Parity(images=len(expected), boxes=boxes, scores=scores)
