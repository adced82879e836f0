"""The table of all model families and their architectures. Their code is in the data plane's ``training``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pelagos_contract.base import OneOf
from pelagos_contract.registry import Registry
from pelagos_contract.tasks import TASKS, Task

SCHEDULING = ("gradientAccumulation", "learningRateSchedule", "warmupEpochs")
"""Hyperparameters that only some families support."""


@dataclass(frozen=True)
class FamilyDescription:
    """A family: its name in model packages, its task, and the names of its architectures, together (``pattern``) and each.

    ``image_size`` is the default longest side of its input in pixels; None: that of its task. ``takes_weights``: a training may
    start from a checkpoint of the same architecture. ``normalizes``, ``balances``, ``augments``: it applies the statistics, the
    balance and the augmentation that a dataset declares. ``schedules``: it supports the hyperparameters of `SCHEDULING`.
    ``several_gpus``: a training can use all its GPUs, otherwise only one.
    """

    name: str
    task: Task
    pattern: str
    architectures: tuple[str, ...]
    image_size: int | None = None
    takes_weights: bool = True
    normalizes: bool = False
    balances: bool = False
    augments: bool = False
    schedules: bool = False
    several_gpus: bool = False
    version: int = 1
    """See algorithms: raised when trainings with the same inputs give different models."""


YOLOV8 = FamilyDescription(
    name="YOLOv8",
    task=Task.DETECTION,
    pattern="yolov8[nsmlx]",
    architectures=("yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
MOBILENET_V3 = FamilyDescription(
    name="MobileNetV3",
    task=Task.CLASSIFICATION,
    pattern="mobilenet_v3_*",
    architectures=("mobilenet_v3_small", "mobilenet_v3_large"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
MOBILENET_V2 = FamilyDescription(
    name="MobileNetV2",
    task=Task.CLASSIFICATION,
    pattern="mobilenet_v2",
    architectures=("mobilenet_v2",),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
YOLOV8_CLS = FamilyDescription(
    name="YOLOv8-cls",
    task=Task.CLASSIFICATION,
    pattern="yolov8[nsmlx]-cls",
    architectures=("yolov8n-cls", "yolov8s-cls", "yolov8m-cls", "yolov8l-cls", "yolov8x-cls"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
MASK_RCNN = FamilyDescription(
    name="MaskRCNN",
    task=Task.INSTANCE_SEGMENTATION,
    pattern="maskrcnn_*",
    architectures=("maskrcnn_mobilenet_v3_small_fpn", "maskrcnn_resnet50_fpn_v2"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
YOLOV8_OBB = FamilyDescription(
    name="YOLOv8-obb",
    task=Task.ORIENTED_DETECTION,
    pattern="yolov8[nsmlx]-obb",
    architectures=("yolov8n-obb", "yolov8s-obb", "yolov8m-obb", "yolov8l-obb", "yolov8x-obb"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
YOLOV8_SEG = FamilyDescription(
    name="YOLOv8-seg",
    task=Task.INSTANCE_SEGMENTATION,
    pattern="yolov8[nsmlx]-seg",
    architectures=("yolov8n-seg", "yolov8s-seg", "yolov8m-seg", "yolov8l-seg", "yolov8x-seg"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
MASK2FORMER_SEMANTIC = FamilyDescription(
    name="Mask2Former-semantic",
    task=Task.SEMANTIC_SEGMENTATION,
    pattern="mask2former_*-semantic",
    architectures=("mask2former_tiny-semantic", "mask2former_swin_t-semantic"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
MASK2FORMER_INSTANCE = FamilyDescription(
    name="Mask2Former-instance",
    task=Task.INSTANCE_SEGMENTATION,
    pattern="mask2former_*-instance",
    architectures=("mask2former_tiny-instance", "mask2former_swin_t-instance"),
    image_size=512,
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
MASK2FORMER_PANOPTIC = FamilyDescription(
    name="Mask2Former-panoptic",
    task=Task.PANOPTIC_SEGMENTATION,
    pattern="mask2former_*-panoptic",
    architectures=("mask2former_tiny-panoptic", "mask2former_swin_t-panoptic"),
    normalizes=True,
    balances=True,
    augments=True,
    schedules=True,
    several_gpus=True,
)
FAMILIES = Registry(
    "family",
    (
        YOLOV8,
        MOBILENET_V3,
        MOBILENET_V2,
        YOLOV8_CLS,
        MASK_RCNN,
        YOLOV8_OBB,
        YOLOV8_SEG,
        MASK2FORMER_SEMANTIC,
        MASK2FORMER_PANOPTIC,
        MASK2FORMER_INSTANCE,
    ),
    reserved=("export", *(task.value for task in Task)),  # names beside those of families in algorithms.of_training
    others=lambda family: family.architectures,
)


def by_architecture() -> dict[str, FamilyDescription]:
    """The family of each architecture."""
    return {architecture: family for family in FAMILIES for architecture in family.architectures}


Architecture = Annotated[str, OneOf(lambda: tuple(by_architecture()))]


def architectures_for(task: str) -> tuple[str, ...]:
    """All architectures for a task."""
    return tuple(name for name, family in by_architecture().items() if family.task == task)


def image_size(architecture: str) -> int:
    """The default longest side of an architecture's input, in pixels."""
    family = by_architecture()[architecture]
    return family.image_size or TASKS[family.task].image_size


def described() -> str:
    """A sentence for people that says what each family is for."""
    patterns = {task: [family.pattern for family in FAMILIES if family.task is task] for task in TASKS}
    return "; ".join(f"{', '.join(names)} to {TASKS[task].verb}" for task, names in patterns.items() if names) + "."
