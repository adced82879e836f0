"""What differs by task when a model serves: one module each, with a class of `strategy.Strategy`. A new one is a line in MODULES.

The standard library alone, until a strategy is asked for: whoever reads packages knows the names of tasks, and needs no numpy.
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
"""By the name of the task in packages."""
CALIBRATED = ("Detection", "Classification", "InstanceSegmentation", "OrientedDetection")
"""Tasks whose packages may say at which temperature scores are told, and what those of classes must reach."""
HEADS: Mapping[str, Mapping[str, str]] = {
    "InstanceSegmentation": {
        "yolov8-seg": "instance_heads.yolov8_seg",
        "maskrcnn": "instance_heads.maskrcnn",
        "mask2former": "instance_heads.mask2former",
    },
}
"""Of tasks whose families have outputs of different kinds: the modules of these, by what packages call them."""


def heads(task: str) -> tuple[str | None, ...]:
    """The heads that packages of a task may name, which must be one of them; None alone where they name none."""
    return tuple(HEADS.get(task, (None,)))


@cache
def named(task: str, head: str | None = None) -> Strategy:
    """The strategy of a task, with a head where it has several. Raises ValueError when it is none that is served."""
    if task not in MODULES:
        raise ValueError(f"there is no task {task!r} that is served; there are {', '.join(MODULES)}")
    if head not in heads(task):
        told = ", ".join(map(str, heads(task)))
        raise ValueError(f"there is no head {head!r} of the task {task} that is served; there are {told}")
    module = MODULES[task] if head is None else HEADS[task][head]
    found: Strategy = import_module(f"{__name__}.{module}").STRATEGY
    return found


def load() -> None:
    """Load all strategies, for a process whose children may load nothing later."""
    for task in MODULES:
        for head in heads(task):
            named(task, head)
