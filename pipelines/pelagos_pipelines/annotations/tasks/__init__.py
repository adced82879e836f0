"""What differs by task in annotations: one module each, with a `strategy.Strategy`. A new one is a line in TASKS."""

from pelagos_contract.registry import Registry
from pelagos_pipelines.annotations.tasks import classification, detection, shaped
from pelagos_pipelines.annotations.tasks.strategy import Strategy

TASKS: Registry[Strategy] = Registry("task", (detection.STRATEGY, classification.STRATEGY, *shaped.STRATEGIES))
