"""What models do with an image, and what datasets are annotated for.

Each has a line in ``TASKS``, and strategies in both planes.
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
"""Averages over classes beside the mean: of all as if they were one, and by how often each is true."""


def averaged(*metrics: str) -> tuple[str, ...]:
    """Their names."""
    return tuple(f"{metric}-{kind}" for metric in metrics for kind in AVERAGES)


@dataclass(frozen=True)
class TaskDescription:
    """A task in words. ``image_size``: the usual longest side of a model's input, in pixels.

    ``fitness``: the metric of the validation split that chooses the best epoch, if the split has it. ``metrics``: what is
    measured on the test split, of each class and as a mean of them; ``overall``: of the split as a whole alone. Gates may name
    any of them. ``primary_metric``: the one that a table has room for.
    """

    task: Task
    verb: str
    image_size: int
    fitness: str
    metrics: tuple[str, ...]
    overall: tuple[str, ...]
    primary_metric: str
    validation: tuple[str, ...] = ()
    """Metrics of the validation split beside ``fitness`` that trials can be compared by: every family of the task has them after
    each epoch. Of detectors not the loss, which ultralytics gives as 0 for weights that are no numbers."""
    calibrated: tuple[str, ...] = ()
    """Metrics of the split as a whole that spec.evaluation.calibration adds; none: scores of the task's models say nothing of how
    often they are right."""
    version: int = 1
    """See algorithms: raised when models are measured, or used, in another way, or by another usual size."""


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
            validation=("RQ", "loss"),  # SQ is of pairs, of which an epoch may have none
        ),
    )
}
