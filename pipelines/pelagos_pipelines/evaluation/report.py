"""What the evaluation says about a model: metrics by name, and figures. Called by the step evaluate with predictions.

Knows no training framework: a prediction is what serving.predictor says it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.evaluation import classification, detection, examples, figures
from pelagos_pipelines.evaluation.ground_truth import Sample
from pelagos_pipelines.evaluation.naming import metric_name
from pelagos_pipelines.serving.predictor import Classification, Detections, Prediction, Thresholds

DETECTION = {
    "mAP50": "map50",
    "mAP50-95": "map50_95",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
    "IoU": "iou",
}
CLASSIFICATION = {"precision": "precision", "recall": "recall", "F1": "f1"}


@dataclass(frozen=True)
class Evaluation:
    """Metrics, ``test/<metric>`` and ``test/<metric>/<class>``: None is one that the split says nothing about. Never 0 for that.

    ``warnings`` say what a reader of the metrics should know.
    """

    metrics: dict[str, float | None]
    warnings: tuple[str, ...]


def evaluate(samples: Sequence[Sample], found: Sequence[Prediction], labels: Sequence[str], folder: Path) -> Evaluation:
    """How well ``found`` fits the test split; figures go to ``folder``.

    Classes without a true annotation in the split have no metrics of their own and do not enter the means.
    """
    if all(isinstance(prediction, Classification) for prediction in found):
        metrics = _classification(samples, [item for item in found if isinstance(item, Classification)], labels, folder)
    else:
        metrics = _detection(samples, [item for item in found if isinstance(item, Detections)], labels, folder)
    return Evaluation(
        {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        tuple(warnings(samples, labels, is_classification=isinstance(found[0], Classification))),
    )


def warnings(samples: Sequence[Sample], labels: Sequence[str], *, is_classification: bool) -> list[str]:
    """What the test split cannot tell."""
    shown = {int(class_id) for sample in samples for class_id in sample.class_ids}
    unseen = [label for index, label in enumerate(labels) if index not in shown]
    said = []
    if is_classification and len(labels) == 1:
        said.append(
            f"the dataset has the class {labels[0]!r} alone: a classifier that always says so is right, whatever it has learnt;"
            " add images of other classes"
        )
    if not shown:
        said.append(
            "the test split has no annotation at all: its metrics are undefined, and no gate on them passes; give it images"
            " that show something (spec.split of the Dataset)"
        )
    elif unseen:
        said.append(
            f"{len(unseen)} of {len(labels)} classes have no annotation in the test split, and no metrics: {format_names(unseen)}"
        )
    return said


def _detection(
    samples: Sequence[Sample], found: Sequence[Detections], labels: Sequence[str], folder: Path
) -> dict[str, float]:
    scores = detection.score(samples, found, len(labels))
    confidence = scores.confidence if math.isfinite(scores.confidence) else Thresholds().confidence
    confusion = detection.confusion(samples, found, len(labels), confidence)
    note = f"confidence ≥ {confidence:.2f}, IoU ≥ 0.50"
    figures.confusion(confusion, [*labels, figures.BACKGROUND], f"Confusion on the test split\n{note}", "boxes", folder)
    recall = np.linspace(0, 1, scores.curves.shape[1])
    curves = {label: (recall, curve) for label, curve in zip(labels, scores.curves, strict=True)}
    figures.precision_recall(curves, dict(zip(labels, scores.map50, strict=True)), "IoU ≥ 0.50", folder)
    examples.detections(samples, found, labels, confidence, folder)
    metrics = _named({name: getattr(scores, attribute) for name, attribute in DETECTION.items()}, labels)
    means = {f"test/{name}": scores.mean(attribute) for name, attribute in DETECTION.items()}
    return means | metrics | {"test/confidence": scores.confidence}


def _classification(
    samples: Sequence[Sample], found: Sequence[Classification], labels: Sequence[str], folder: Path
) -> dict[str, float]:
    truth = np.array([sample.class_ids[0] for sample in samples])
    probabilities = np.stack([prediction.probabilities for prediction in found])
    scores = classification.score(truth, probabilities.argmax(axis=1), len(labels))
    figures.confusion(scores.confusion, labels, "Confusion on the test split", "images", folder)
    curves, areas = {}, {}
    for index, label in enumerate(labels):
        if (truth == index).any():
            precision, recall = classification.precision_recall(truth == index, probabilities[:, index])
            curves[label] = recall, precision
            areas[label] = float(-np.sum(np.diff(recall) * precision[:-1]))
    figures.precision_recall(curves, areas, "one class against the others", folder)
    examples.classifications(samples, found, labels, folder)
    metrics = _named({name: getattr(scores, attribute) for name, attribute in CLASSIFICATION.items()}, labels)
    means = {f"test/{name}": scores.macro(attribute) for name, attribute in CLASSIFICATION.items()}
    return {"test/accuracy": scores.accuracy} | means | metrics


def _named(values: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float]:
    return {
        f"test/{metric}/{metric_name(labels[index])}": float(value)
        for metric, per_class in values.items()
        for index, value in enumerate(per_class)
    }
