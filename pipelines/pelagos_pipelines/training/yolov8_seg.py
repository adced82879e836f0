"""YOLOv8-seg (Jocher et al. 2023), built from ultralytics' architecture files, trained from scratch; nothing is downloaded.

Steps use `FAMILY` through families.Family. Code shared with the detectors is in yolov8.py, which also prepares ultralytics.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pelagos_contract.families import YOLOV8_SEG, FamilyDescription
from pelagos_contract.run_lengths import Part
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.serving import tasks
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Prediction, Settings, Thresholds
from pelagos_pipelines.serving.tasks.instance_segmentation import Candidates, columns_and_rows, instances
from pelagos_pipelines.training import yolov8  # before ultralytics is imported
from pelagos_pipelines.training.yolov8_trainer import Scaled, Trainer, Unsuppressed

import cv2  # isort: skip
import numpy as np  # isort: skip
from ultralytics import YOLO  # isort: skip
from ultralytics.data import utils  # isort: skip
from ultralytics.engine.results import Results  # isort: skip
from ultralytics.models.yolo.segment import SegmentationPredictor, SegmentationTrainer  # isort: skip
from ultralytics.nn.tasks import SegmentationModel  # isort: skip
from ultralytics.utils import ops  # isort: skip
from typing_extensions import override

HEAD = "yolov8-seg"
"""The name of these networks' outputs in serving."""
NAMES = {
    "metrics/precision(M)": "validation/precision",
    "metrics/recall(M)": "validation/recall",
    "metrics/mAP50(M)": "validation/mAP50",
    "metrics/mAP50-95(M)": "validation/mAP50-95",
    "metrics/mAP50(B)": "validation/box-mAP50",
    "metrics/mAP50-95(B)": "validation/box-mAP50-95",
}
AT_ONCE = 2**25
"""Pixels of the whole masks that ultralytics computes at a time."""
MOST_POINTS = 4_000
"""The most points of an outline in training; ultralytics itself resamples shorter ones to 1,000."""
NEARNESS = 0.25
"""Pixels by which a shortened outline may differ from the original, in the first attempt."""


def _filled(imgsz: tuple[int, int], polygons: Any, color: int = 1, downsample_ratio: int = 1) -> Any:
    """Replaces ultralytics' drawing of outlines: fills the pixels by the rule of annotations.masks, then reduces the mask.

    The original truncates coordinates to whole pixels, and fills all pixels that the outline touches.
    """
    height, width = imgsz
    mask: Any = np.zeros(imgsz, np.uint8)
    for ring in polygons:
        left, top, inside = masks.filled(ring, width, height)
        mask[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = color
    return cv2.resize(mask, (width // downsample_ratio, height // downsample_ratio))


utils.polygon2mask = _filled


def shorten(labels: Sequence[dict[str, Any]], size: int) -> int:
    """Simplify outlines of more than MOST_POINTS, as little as possible in images of ``size`` pixels. Returns how many.

    ``labels`` are those of ultralytics' dataset, which may list one several times; ``segments`` [points, 2] are in fractions.
    """
    count = 0
    for label in {id(each): each for each in labels}.values():
        for place, segment in enumerate(label["segments"]):
            points, nearness = segment, NEARNESS
            while len(points) > MOST_POINTS:
                points = (
                    cv2.approxPolyDP((segment * size).astype(np.float32)[:, None], nearness, closed=True)[:, 0] / size
                )
                nearness *= 2
            if points is not segment:
                label["segments"][place] = points.astype(np.float32)
                count += 1
    return count


class _Trainer(Trainer, SegmentationTrainer):  # type: ignore[misc]  # ultralytics is not typed
    """Trains one job for masks; see `yolov8_trainer.Trainer`."""

    NETWORK: ClassVar[Any] = SegmentationModel
    TASK: ClassVar[str] = "segment"
    NAMES: ClassVar[dict[str, str]] = NAMES

    @override
    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Bound the length of outlines, because ultralytics resamples all outlines of an image to the longest one's length."""
        dataset = super().build_dataset(img_path, mode, batch)
        if count := shorten(dataset.labels, self.args.imgsz):
            told = "%d outlines have more than %d points, and are drawn in fewer for training (%s)"
            logging.getLogger(__name__).warning(told, count, MOST_POINTS, mode)
        return dataset


class _Raw(Scaled, SegmentationPredictor):  # type: ignore[misc]  # ultralytics is not typed
    """Keeps the network's outputs for the latest image in ``raw``, in the form of `Predictor.outputs`, and skips the decoding."""

    raw: Any = None

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **kwargs: Any) -> Any:
        """Keep the outputs, and return empty results."""
        self.raw = _outputs(preds)
        return [Results(orig_img, path="", names=self.model.names) for orig_img in orig_imgs]


class _Unsuppressed(Unsuppressed, SegmentationPredictor):  # type: ignore[misc]  # ultralytics is not typed
    """Like `_Raw`, but lets ultralytics compute masks in pixels of the original, in bounded memory."""

    found: Any = None

    @override
    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **kwargs: Any) -> Any:
        """Keep the outputs before NMS changes them, then continue as ultralytics does."""
        self.raw = _outputs(preds)
        return SegmentationPredictor.postprocess(self, preds, img, orig_imgs, **kwargs)

    def construct_result(self, pred: Any, img: Any, orig_img: Any, img_path: str, proto: Any) -> Any:
        """Compute masks as ultralytics does for ``retina_masks``, but a few at a time, and keep them as runs."""
        height, width = orig_img.shape[:2]
        limit = self.args.max_det - 1  # one more was requested, to know whether there are more
        kept = pred[:limit]
        kept[:, :4] = ops.scale_boxes(img.shape[2:], kept[:, :4], orig_img.shape)
        boxes, scores, class_ids = (values.cpu().numpy() for values in (kept[:, :4], kept[:, 4], kept[:, 5]))
        found = Candidates(scores, class_ids, boxes, len(pred) > limit)
        many, made = max(1, AT_ONCE // (height * width)), dict[int, Any]()

        def part(place: int) -> Any:
            if place not in made:
                made.clear()
                some = kept[place : place + many]
                whole = ops.process_mask_native(proto, some[:, 6:], some[:, :4], (height, width)).cpu().numpy()
                made.update(enumerate(whole, start=place))
            columns, rows = columns_and_rows(boxes[place], (height, width))
            return Part(columns.start, rows.start, made[place][rows, columns] > 0)

        self.found = instances(Fitted(np.zeros((0, 0, 3), np.uint8), width, height), found, part)
        return Results(orig_img, path=img_path, names=self.model.names, boxes=pred[:, :6])


def _outputs(preds: Any) -> tuple[Any, Any]:
    candidates, prototypes = preds[0] if isinstance(preds[0], tuple) else preds
    return candidates[0].float().cpu().numpy().copy(), prototypes[0].float().cpu().numpy().copy()


class YoloV8Seg(yolov8.YoloV8):
    """The family of YOLOv8-seg; `families.Family` documents its methods."""

    DESCRIPTION: ClassVar[FamilyDescription] = YOLOV8_SEG
    TRAINER: ClassVar[type[Trainer]] = _Trainer
    UNSUPPRESSED: ClassVar[type[Unsuppressed]] = _Unsuppressed

    @override
    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """The network's outputs, decoded as in the server; `prove` shows that ultralytics' decoding gives the same.

        ultralytics computes each mask on the whole image, which takes minutes for a large image with thousands of candidates.
        """
        model = YOLO(checkpoint)
        size = int(model.overrides["imgsz"])
        settings = Settings(self.DESCRIPTION.task.value, tuple(model.names.values()), size, yolov8.STRIDE, head=HEAD)
        head = tasks.named(settings.task, HEAD)
        for image in images:
            model.predict(image, verbose=False, save=False, predictor=functools.partial(_Raw, yolov8.scale_of(model)))
            fitted = Fitted(np.zeros((0, 0, 3), np.uint8), image.shape[1], image.shape[0])
            yield head.decode(model.predictor.raw, fitted, settings, thresholds)

    @override
    def _found(self, model: Any, image: Pixels, thresholds: Thresholds, **more: Any) -> Prediction:
        super()._found(model, image, thresholds, **more)
        found: Prediction = model.predictor.found
        return found

    @override
    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Export candidates and prototypes. Batch, height and width are dynamic."""
        return replace(super().export(checkpoint, onnx), head=HEAD)


FAMILY = YoloV8Seg()
