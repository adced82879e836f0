"""Chooses the image with which a served model is probed, and its expected answer, such that a different model would fail.

Called by the step export after parity is proven. The package has the training framework's prediction for the image, and a sketch
of the exported graph's outputs before any threshold (serving.sketches), with a tolerance: other processors and decoders compute
slightly differently, by no more than the effect of noise of one grey level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pelagos_pipelines.export import parity
from pelagos_pipelines.export.tasks import TASKS
from pelagos_pipelines.serving import sketches
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Prediction, Raw, Thresholds
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.serving.tasks.strategy import Strategy

SHARE, TIMES = 1.5, 3.0
"""Factors of the tolerance: on the effect of noise, and on rounding and on the difference between framework and graph."""
CLEAR = 2.0
"""How many times the tolerance a wrong answer should differ."""


@dataclass(frozen=True)
class Candidate:
    """An image, the outputs of the training framework's network and of the exported graph, and the former's prediction."""

    image: Fitted
    trained: Raw
    exported: Raw
    known: Prediction


def choose(predictor: Predictor, candidates: Sequence[Candidate], thresholds: Thresholds) -> tuple[int, dict[str, Any]]:
    """The index of the most discriminating candidate, and the package's document about the outputs for it."""
    task, labels = predictor.task, predictor.settings.labels
    images = [candidate.image for candidate in candidates]
    noisy = predictor.outputs([parity.with_noise(image) for image in images])
    # Swapped colour channels are the most frequent mistake, which images with little colour do not reveal.
    swapped = predictor.outputs(
        [replace(image, canvas=np.ascontiguousarray(image.canvas[..., ::-1])) for image in images]
    )
    best: tuple[tuple[float, ...], int, dict[str, Any]] | None = None
    for index, candidate in enumerate(candidates):
        sketch, wrong = (task.sketch(raw) for raw in (candidate.exported, swapped[index]))
        allowed = _allowed(candidate, noisy[index], task)
        away = max(float(values.max()) / allowed[kind] for kind, values in sketches.distances(wrong, sketch).items())
        worth = (min(away, CLEAR), *TASKS.named(task.task).worth(candidate.known, thresholds))
        if best is None or worth > best[0]:
            best = worth, index, sketches.packed(sketch, labels) | {"allowed": allowed}
    assert best is not None
    return best[1], best[2]


def _allowed(candidate: Candidate, shaken: Raw, task: Strategy) -> dict[str, float]:
    undecided = task.rounding(candidate.exported)
    sketch, noisy, trained = (task.sketch(raw) for raw in (candidate.exported, shaken, candidate.trained))
    response, apart = sketches.distances(noisy, sketch), sketches.distances(trained, sketch)
    return {
        kind: float(SHARE * response[kind].max() + TIMES * (undecided[kind].max() + apart[kind].max()))
        for kind in sketch
    }
