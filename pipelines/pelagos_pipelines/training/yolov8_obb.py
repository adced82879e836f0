"""YOLOv8 detectors of turned boxes (Jocher et al. 2023), built from ultralytics' architecture files, trained from scratch.

Everything that yolov8.py says about detectors applies. When ultralytics augments an image, it turns the boxes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pelagos_contract import suppression
from pelagos_contract.families import YOLOV8_OBB
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.tasks.oriented_detection import OrientedDetections, canonical
from pelagos_pipelines.training.yolov8 import YoloV8
from pelagos_pipelines.training.yolov8_trainer import Scaled, Trainer, Unsuppressed

# isort: split
from typing_extensions import override
from ultralytics.data import utils
from ultralytics.models.yolo.obb import OBBPredictor, OBBTrainer
from ultralytics.nn.tasks import OBBModel
from ultralytics.utils.metrics import batch_probiou
from ultralytics.utils.nms import TorchNMS

_usual = TorchNMS.fast_nms


def _suppressed(boxes: Tensor, scores: Tensor, iou_threshold: float, *more: Any, **others: Any) -> Tensor:
    """Replaces ultralytics' NMS of turned boxes, whose matrices of all pairs take gigabytes when a model is unsure."""
    if others.get("iou_func") is not batch_probiou:
        usual: Tensor = _usual(boxes, scores, iou_threshold, *more, **others)
        return usual
    order = torch.argsort(scores, descending=True, stable=True)
    kept, _ = suppression.turned_nms(boxes[order].float().cpu().numpy(), iou_threshold)
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


TorchNMS.fast_nms = staticmethod(_suppressed)

_around = utils.segments2boxes


def _around_what_is_inside(segments: Sequence[Any]) -> npt.NDArray[np.float32]:
    """Upright boxes of outlines, clipped to the image: ultralytics leaves out images with boxes beyond their edges."""
    found: npt.NDArray[np.float32] = _around([np.clip(segment, 0, 1) for segment in segments])
    return found


utils.segments2boxes = _around_what_is_inside


class _Trainer(Trainer, OBBTrainer):  # type: ignore[misc]  # ultralytics is not typed
    NETWORK: ClassVar[Any] = OBBModel
    TASK: ClassVar[str] = "obb"


class _Scaled(Scaled, OBBPredictor):  # type: ignore[misc]
    pass


class _Unsuppressed(Unsuppressed, OBBPredictor):  # type: ignore[misc]
    pass


class YoloV8Obb(YoloV8):
    """The family of YOLOv8 detectors of turned boxes; `families.Family` documents its methods."""

    DESCRIPTION, TRAINER, SCALED, UNSUPPRESSED = YOLOV8_OBB, _Trainer, _Scaled, _Unsuppressed

    @override
    def prediction(self, found: Any, image: Pixels, limit: int) -> OrientedDetections:
        boxes = found.obb
        return OrientedDetections(
            image.shape[1],
            image.shape[0],
            canonical(boxes.xywhr[:limit].numpy()),
            boxes.conf[:limit].numpy().astype(np.float32),
            boxes.cls[:limit].numpy().astype(np.int32),
            cut=len(boxes) > limit,
        )


FAMILY = YoloV8Obb()
