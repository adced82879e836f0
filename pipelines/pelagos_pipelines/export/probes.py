"""The image that a served model is asked about, and what it must answer: chosen so that another model answers otherwise.

Called by the step export when parity is proven. The package has what the training framework predicts for it, and a sketch of
what the exported graph gives before any threshold (serving.sketches), with how far that of a server may be from it: other
processors and decoders compute a little differently, which is no more than what noise of one grey level does.
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
"""Of the answer to that noise; and of rounding, and of what the training framework and the graph are apart."""
CLEAR = 2.0
"""How many times what is allowed a wrong answer should be away."""


@dataclass(frozen=True)
class Candidate:
    """An image, what the training framework's network and the exported graph give for it, and what the former predicts."""

    image: Fitted
    trained: Raw
    exported: Raw
    known: Prediction


def choose(predictor: Predictor, candidates: Sequence[Candidate], thresholds: Thresholds) -> tuple[int, dict[str, Any]]:
    """Index of the most telling candidate, and what a package says of the outputs for it."""
    task, labels = predictor.task, predictor.settings.labels
    images = [candidate.image for candidate in candidates]
    noisy = predictor.outputs([parity.with_noise(image) for image in images])
    # The mistake that is made most often, and that images of little colour do not show.
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
