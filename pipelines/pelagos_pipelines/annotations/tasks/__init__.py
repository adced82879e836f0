"""Task-specific handling of annotations: one module per task, with a `strategy.Strategy`. A new one is a line in TASKS."""

from pelagos_contract.registry import Registry
from pelagos_pipelines.annotations.tasks import classification, detection, shaped
from pelagos_pipelines.annotations.tasks.strategy import Strategy

TASKS: Registry[Strategy] = Registry("task", (detection.STRATEGY, classification.STRATEGY, *shaped.STRATEGIES))
