"""Task-specific parts of the export: one module per task, with a `strategy.Strategy`. A new one is a line in TASKS."""

from pelagos_contract.registry import Registry
from pelagos_pipelines.export.tasks import (
    classification,
    detection,
    instance_segmentation,
    oriented_detection,
    panoptic_segmentation,
    semantic_segmentation,
)
from pelagos_pipelines.export.tasks.strategy import Strategy

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
