"""The task-specific parts of serving: one module per task, with a subclass of `strategy.Strategy`, listed in MODULES.

Imports only the standard library until a strategy is needed: readers of packages need the names of tasks, but not numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pelagos_pipelines.serving.tasks.strategy import Strategy

MODULES = {
    "Detection": "detection",
    "Classification": "classification",
    "InstanceSegmentation": "instance_segmentation",
    "OrientedDetection": "oriented_detection",
    "SemanticSegmentation": "semantic_segmentation",
    "PanopticSegmentation": "panoptic_segmentation",
}
"""The modules by the name of the task in packages."""
CALIBRATED = ("Detection", "Classification", "InstanceSegmentation", "OrientedDetection")
"""Tasks whose packages may have a calibration of scores, and thresholds of classes."""
HEADS: Mapping[str, Mapping[str, str]] = {
    "InstanceSegmentation": {
        "yolov8-seg": "instance_heads.yolov8_seg",
        "maskrcnn": "instance_heads.maskrcnn",
        "mask2former": "instance_heads.mask2former",
    },
}
"""For tasks whose families have outputs of different kinds: the modules of these heads, by their names in packages."""


def heads(task: str) -> tuple[str | None, ...]:
    """The heads of a task, one of which its packages must name; only None for tasks without heads."""
    return tuple(HEADS.get(task, (None,)))


@cache
def named(task: str, head: str | None = None) -> Strategy:
    """The strategy of a task, for a head if it has several. Raises ValueError for an unknown task or head."""
    if task not in MODULES:
        raise ValueError(f"there is no task {task!r} that is served; there are {', '.join(MODULES)}")
    if head not in heads(task):
        told = ", ".join(map(str, heads(task)))
        raise ValueError(f"there is no head {head!r} of the task {task} that is served; there are {told}")
    module = MODULES[task] if head is None else HEADS[task][head]
    found: Strategy = import_module(f"{__name__}.{module}").STRATEGY
    return found


def load() -> None:
    """Import all strategies, for a process whose children cannot import anything later."""
    for task in MODULES:
        for head in heads(task):
            named(task, head)
