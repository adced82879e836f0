"""How answers of models are shown: one module per task, with a `strategy.Strategy`. A new task is a line in TASKS."""

from pelagos.cli.predictions import (
    classification,
    detection,
    instance_segmentation,
    oriented_detection,
    panoptic_segmentation,
    semantic_segmentation,
)
from pelagos.cli.predictions.strategy import Strategy
from pelagos_contract.registry import Registry

TASKS: Registry[Strategy] = Registry(
    "task",
    (
        detection.STRATEGY,
        classification.STRATEGY,
        instance_segmentation.STRATEGY,
        oriented_detection.STRATEGY,
        semantic_segmentation.STRATEGY,
        panoptic_segmentation.STRATEGY,
    ),
)
