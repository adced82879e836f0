"""Detection in serving: a network's boxes ``[4 + classes, anchors]`` (centre x, y, width, height; class scores)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pelagos_contract import suppression
from pelagos_pipelines.serving import calibration, geometry, sketches
from pelagos_pipelines.serving.geometry import Fit, Fitted, Pixels
from pelagos_pipelines.serving.predictions import Floats, Integers, Prediction, Scaling, Settings, Thresholds
from pelagos_pipelines.serving.tasks.strategy import Strategy

CLASS_OFFSET = np.float32(7680)
"""Boxes are moved apart by this many pixels per class, so that NMS never crosses classes."""
MAX_CANDIDATES = 30_000
"""The most boxes of one image that go into NMS, best first, as in ultralytics; so also the most detections."""
VALUES = 16_384
"""About how many numbers of each kind a sketch has."""
MOST, LEAST = 128, 4
"""The most and the least anchors in a sketch."""


@dataclass(frozen=True)
class Detections(Prediction):
    """Boxes of one image: ``[n, 4]`` x1, y1, x2, y2 in pixels of the original; ``scores`` [n] descending; ``class_ids`` [n].

    ``cut``: there were more, and only the best are kept (`Thresholds.max_detections`, MAX_CANDIDATES).
    """

    task = "Detection"
    boxes: Floats
    scores: Floats
    class_ids: Integers
    cut: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether there were more objects than are kept."""
        return self.cut

    def chosen(self, which: npt.NDArray[np.bool_]) -> Self:
        """The detections that an index array or a mask selects."""
        return replace(self, boxes=self.boxes[which], scores=self.scores[which], class_ids=self.class_ids[which])

    def calibrated(self, scaling: Scaling) -> Self:
        """The prediction with calibrated scores, in the same order."""
        return replace(self, scores=calibration.scaled(self.scores, scaling))

    def told(self, thresholds: Thresholds, scaling: Scaling | None) -> Self:
        """The calibrated detections that exceed their class's threshold."""
        found = self if scaling is None else self.calibrated(scaling)
        return found.chosen(found.scores > thresholds.least(found.class_ids))

    def placed(self, box: Floats) -> dict[str, Any]:
        """The place of one box, for JSON."""
        return {"box": [round(float(value), 2) for value in box]}

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """All detections, best first."""
        found = [
            {
                "label": labels[class_id],
                "classId": int(class_id),
                "score": round(float(score), 6),
                **self.placed(box),
            }
            for box, score, class_id in zip(self.boxes, self.scores, self.class_ids, strict=True)
        ]
        return {
            "task": self.task,
            "width": self.width,
            "height": self.height,
            "cut": self.cut,
            DetectionTask.results: found,
        }


def detections(raw: Floats, at: Fit, original: tuple[int, int], thresholds: Thresholds) -> Detections:
    """The detections of `with_anchors`."""
    return with_anchors(raw, at, original, thresholds)[0]


def with_anchors(
    raw: Floats, at: Fit, original: tuple[int, int], thresholds: Thresholds
) -> tuple[Detections, npt.NDArray[np.intp]]:
    """Turn a detector's ``[4 + classes, anchors]`` (centre x, y, width, height; class scores) into detections.

    Args:
        raw: output of one image, boxes in pixels of the canvas.
        at: how the image was placed on the canvas.
        original: width and height of the original image in pixels.
        thresholds: confidence, IoU and the number of detections to keep.

    Returns:
        The detections, and the anchor of each.
    """
    anchors = np.flatnonzero(thresholds.passed(raw[4:]))
    # Values that are not finite have no place in JSON, and would fail all answers of the batch.
    anchors = anchors[np.isfinite(raw[:, anchors]).all(axis=0)]
    raw = raw[:, anchors].T
    scores, classes = raw[:, 4:].max(axis=1), raw[:, 4:].argmax(axis=1)
    left_out = len(scores) > MAX_CANDIDATES
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    raw, scores, classes, anchors = raw[order, :4], scores[order], classes[order], anchors[order]
    half = raw[:, 2:] / np.float32(2)
    boxes = np.concatenate((raw[:, :2] - half, raw[:, :2] + half), axis=1)
    apart = classes.astype(np.float32)[:, None] * CLASS_OFFSET
    kept, more = suppression.nms(boxes + apart, thresholds.iou, thresholds.max_detections)
    width, height = original
    scale = np.array([at.width / width, at.height / height] * 2, np.float32)
    boxes = (boxes[kept] - np.array([at.left, at.top] * 2, np.float32)) / scale
    boxes = boxes.clip(0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    chosen = scores[kept].astype(np.float32), classes[kept].astype(np.int32)
    return Detections(width, height, boxes, *chosen, cut=more or left_out), anchors[kept]


class DetectionTask(Strategy):
    """Implements `Strategy`, which documents its methods, for detection."""

    task, results = Detections.task, "detections"
    numbers = 4
    """Numbers per box."""

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """The sides of the smallest letterbox."""
        at = geometry.fit(width, height, size, stride)
        return at.canvas_height, at.canvas_width

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image in the smallest letterbox."""
        height, width = image.shape[:2]
        return Fitted(geometry.place(image, geometry.fit(width, height, size, stride)), width, height)

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Values in [0, 1]."""
        values = canvases[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C")
        values /= np.float32(255)
        return values

    def decode(self, raw: Floats, image: Fitted, settings: Settings, thresholds: Thresholds) -> Detections:
        """See `detections`."""
        at = geometry.fit(*image.shown, settings.image_size, settings.stride)
        return detections(raw, at, (image.width, image.height), thresholds)

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """Rectangular tensors with at least one row, because empty tensors cannot be sent. Refused images have a count of 0."""
        batch = len(predictions)
        counts = [0 if found is None else len(found.scores) for found in predictions]
        rows = max([1, *counts])
        boxes: Any = np.zeros((batch, rows, self.numbers), np.float32)
        scores: Any = np.zeros((batch, rows), np.float32)
        class_ids: Any = np.zeros((batch, rows), np.int32)
        for index, (found, count) in enumerate(zip(predictions, counts, strict=True)):
            if count:
                boxes[index, :count] = found.boxes
                scores[index, :count] = found.scores
                class_ids[index, :count] = found.class_ids
        cut = np.array([[found is not None and found.cut] for found in predictions], bool)
        rows_of = {"boxes": boxes, "scores": scores, "class_ids": class_ids}
        return {"count": np.array(counts, np.int32)[:, None], "cut": cut, **rows_of}

    def rows(self, raw: Floats) -> dict[str, Any]:
        """``scores``, a row for each class, as logits, so that small ones count as much as large ones; and ``boxes``."""
        kept = _scores(raw)
        return {"scores": np.log(kept / (1 - kept)), "boxes": raw[:4].astype(np.float64)}

    def sketch(self, raw: Floats) -> dict[str, Any]:
        """Some anchors, evenly spread, and as ``best`` the highest scores of each class.

        The latter are needed because most anchors of a good detector see nothing.
        """
        known = self.rows(raw)
        anchors, chosen = raw.shape[1], self.told(raw)
        count = len(chosen)
        best = np.sort(np.partition(known["scores"], anchors - count, axis=1)[:, anchors - count :], axis=1)
        return {kind: values[:, chosen] for kind, values in known.items()} | {"best": best[:, ::-1]}

    def told(self, raw: Floats) -> npt.NDArray[np.int64]:
        """The indices of the anchors in a sketch."""
        anchors = raw.shape[1]
        return np.linspace(0, anchors - 1, min(max(VALUES // len(raw), LEAST), MOST, anchors)).astype(int)

    def rounding(self, raw: Floats) -> dict[str, Any]:
        """The uncertainty of rows; that of ``best`` is the same as of all scores."""
        kept = _scores(raw)
        undecided = np.sqrt(np.square(sketches.ULPS / (kept * (1 - kept))).mean(axis=1))
        return {"scores": undecided, "best": undecided, "boxes": sketches.ULPS * np.abs(raw[:4]).max(axis=1)}


def _scores(raw: Floats) -> npt.NDArray[np.float64]:
    return np.clip(raw[4:].astype(np.float64), sketches.FAINTEST, 1 - sketches.FAINTEST)


STRATEGY = DetectionTask()
