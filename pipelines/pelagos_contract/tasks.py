"""Tasks: what models do with an image, and what datasets are annotated for.

Each has an entry in ``TASKS``, and strategies in both planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    """What a model does with an image."""

    CLASSIFICATION = "Classification"
    DETECTION = "Detection"
    ORIENTED_DETECTION = "OrientedDetection"
    INSTANCE_SEGMENTATION = "InstanceSegmentation"
    SEMANTIC_SEGMENTATION = "SemanticSegmentation"
    PANOPTIC_SEGMENTATION = "PanopticSegmentation"


AVERAGES = ("micro", "weighted")
"""Averages over classes beside the mean: over all samples together, and weighted by the frequency of each true class."""


def averaged(*metrics: str) -> tuple[str, ...]:
    """The names of the metrics' averages."""
    return tuple(f"{metric}-{kind}" for metric in metrics for kind in AVERAGES)


@dataclass(frozen=True)
class TaskDescription:
    """A task. ``image_size``: the default longest side of a model's input, in pixels.

    ``fitness``: the metric of the validation split that selects the best epoch, if the split has it. ``metrics``: measured on the
    test split for each class and as their mean; ``overall``: only for the split as a whole. Gates can use any of them.
    ``primary_metric``: the one shown in tables.
    """

    task: Task
    verb: str
    image_size: int
    fitness: str
    metrics: tuple[str, ...]
    overall: tuple[str, ...]
    primary_metric: str
    validation: tuple[str, ...] = ()
    """Metrics of the validation split beside ``fitness`` by which trials can be compared: every family of the task has them after
    each epoch. Detectors do not have the loss among them, which ultralytics reports as 0 for weights that are NaN."""
    calibrated: tuple[str, ...] = ()
    """Metrics of the whole split that spec.evaluation.calibration adds; empty for tasks whose scores do not estimate how often
    predictions are right."""
    version: int = 1
    """See algorithms: raised when models are evaluated or used differently, or the default size changes."""


_CALIBRATED = ("ECE", "ECE-uncalibrated")
TASKS = {
    description.task: description
    for description in (
        TaskDescription(
            Task.DETECTION,
            verb="detect",
            image_size=640,
            fitness="mAP50-95",
            metrics=("mAP50", "mAP75", "mAP50-95", "precision", "recall", "F1", "IoU"),
            overall=("confidence", *averaged("precision", "recall", "F1", "IoU")),
            primary_metric="mAP50",
            validation=("mAP50", "precision", "recall"),
            calibrated=_CALIBRATED,
        ),
        TaskDescription(
            Task.CLASSIFICATION,
            verb="classify",
            image_size=224,
            fitness="F1",
            metrics=("precision", "recall", "F1"),
            overall=("accuracy", "loss", "top5", *averaged("precision", "recall", "F1")),
            primary_metric="accuracy",
            validation=("accuracy", "precision", "recall", "loss"),
            calibrated=_CALIBRATED,
        ),
        TaskDescription(
            Task.INSTANCE_SEGMENTATION,
            verb="segment instances",
            image_size=640,
            fitness="mAP50-95",
            metrics=(
                "mAP50",
                "mAP75",
                "mAP50-95",
                "box-mAP50",
                "box-mAP75",
                "box-mAP50-95",
                "precision",
                "recall",
                "F1",
                "IoU",
                "Dice",
            ),
            overall=("confidence", *averaged("precision", "recall", "F1", "IoU", "Dice")),
            primary_metric="mAP50",
            validation=("mAP50", "precision", "recall"),
            calibrated=_CALIBRATED,
        ),
        TaskDescription(
            Task.ORIENTED_DETECTION,
            verb="detect with an angle",
            image_size=640,
            fitness="mAP50-95",
            metrics=("mAP50", "mAP75", "mAP50-95", "precision", "recall", "F1", "IoU"),
            overall=("confidence", *averaged("precision", "recall", "F1", "IoU")),
            primary_metric="mAP50",
            validation=("mAP50", "precision", "recall"),
            calibrated=_CALIBRATED,
        ),
        TaskDescription(
            Task.SEMANTIC_SEGMENTATION,
            verb="label pixels",
            image_size=512,
            fitness="IoU",
            metrics=("IoU", "Dice", "precision", "recall", "F1"),
            overall=("pixelAccuracy", *averaged("IoU", "Dice", "precision", "recall", "F1")),
            primary_metric="IoU",
            validation=("Dice", "pixelAccuracy", "loss"),
        ),
        TaskDescription(
            Task.PANOPTIC_SEGMENTATION,
            verb="label pixels and objects",
            image_size=512,
            fitness="PQ",
            metrics=("PQ", "SQ", "RQ"),
            overall=("PQ-things", "SQ-things", "RQ-things", "PQ-stuff", "SQ-stuff", "RQ-stuff"),
            primary_metric="PQ",
            validation=("RQ", "loss"),  # SQ is undefined in an epoch without matched pairs
        ),
    )
}
