"""Oriented detection in serving: a network's turned boxes ``[4 + classes + 1, anchors]``.

Rows are centre x, y, width, height, class scores, and an angle in radians from the x axis towards the y axis, which is clockwise
as one sees the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract import suppression
from pelagos_pipelines.serving import geometry, sketches
from pelagos_pipelines.serving.geometry import Fit, Fitted
from pelagos_pipelines.serving.predictions import Floats, Settings, Thresholds
from pelagos_pipelines.serving.tasks import detection
from pelagos_pipelines.serving.tasks.detection import CLASS_OFFSET, MAX_CANDIDATES, Detections, DetectionTask


@dataclass(frozen=True)
class OrientedDetections(Detections):
    """Boxes of one image: ``[n, 5]`` centre x, y, length, width in pixels of the original, and angle; the rest as `Detections`.

    Length is the longer side, and the angle, in degrees from 0 to 180, is that of this side: clockwise from the x axis, as one
    sees the image. Corners may lie outside of the image.
    """

    task = "OrientedDetection"

    def placed(self, box: Floats) -> dict[str, Any]:
        """The box and its corners. Angles have three digits, because 0.001 degrees move a long box's end by less than 0.01 px."""
        *sides, angle = box.tolist()
        return {
            "box": [*(round(side, 2) for side in sides), round(angle, 3) % 180],
            "corners": np.round(corners(box[None].astype(np.float64))[0], 2).tolist(),
        }


def corners(boxes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """x and y of the corners of turned boxes ``[n, 5]``, as ``[n, 4, 2]``: clockwise, starting at the top left for 0 degrees."""
    half, turn = boxes[:, None, 2:4] / 2, np.radians(boxes[:, 4])[:, None]
    right, down = np.moveaxis(half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], boxes.dtype), -1, 0)
    cosine, sine = np.cos(turn), np.sin(turn)
    found: npt.NDArray[Any] = boxes[:, None, :2] + np.stack(
        (right * cosine - down * sine, right * sine + down * cosine), axis=-1
    )
    return found


def canonical(boxes: npt.NDArray[Any]) -> Floats:
    """Boxes with any sides and angles in radians, converted to the unique form of `OrientedDetections`."""
    found: Floats = boxes.astype(np.float32)
    is_high = found[:, 2] < found[:, 3]
    found[is_high, 2:4] = found[is_high, 3:1:-1]
    found[:, 4] = np.degrees(found[:, 4]) + np.where(is_high, np.float32(90), np.float32(0))
    found[:, 4] %= 180
    return found


def oriented_detections(raw: Floats, at: Fit, original: tuple[int, int], thresholds: Thresholds) -> OrientedDetections:
    """Decode a detector's ``[4 + classes + 1, anchors]`` into detections; arguments as of `detection.detections`."""
    kept = raw[:, thresholds.passed(raw[4:-1])].T
    with np.errstate(over="ignore"):
        kept = kept[np.isfinite(kept * np.float32(180)).all(axis=1)]  # finite in degrees, too
    scores, classes = kept[:, 4:-1].max(axis=1), kept[:, 4:-1].argmax(axis=1)
    left_out = len(scores) > MAX_CANDIDATES
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    boxes, scores, classes = kept[order][:, [0, 1, 2, 3, -1]], scores[order], classes[order]
    apart = boxes.copy()
    apart[:, :2] += classes.astype(np.float32)[:, None] * CLASS_OFFSET
    chosen, more = suppression.turned_nms(apart, thresholds.iou, thresholds.max_detections)
    width, height = original
    found = boxes[chosen]
    found[:, :2] -= np.array([at.left, at.top], np.float32)
    found[:, :4] /= np.array([at.width / width, at.height / height] * 2, np.float32)
    return OrientedDetections(
        width,
        height,
        canonical(found),
        scores[chosen].astype(np.float32),
        classes[chosen].astype(np.int32),
        cut=more or left_out,
    )


class OrientedDetectionTask(DetectionTask):
    """Implements `Strategy`, which documents its methods, for oriented detection."""

    task, numbers = OrientedDetections.task, 5

    def decode(self, raw: Floats, image: Fitted, settings: Settings, thresholds: Thresholds) -> OrientedDetections:
        """See `oriented_detections`."""
        at = geometry.fit(*image.shown, settings.image_size, settings.stride)
        return oriented_detections(raw, at, (image.width, image.height), thresholds)

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """The tensors of detection, with the corners of each box, x and y alternating; all 0 for rows without a box."""
        found = super().tensors(predictions, labels)
        boxes = found["boxes"]
        points = corners(boxes.reshape(-1, self.numbers)).reshape(*boxes.shape[:2], 8)
        return found | {"corners": points.astype(np.float32)}

    def rows(self, raw: Floats) -> dict[str, Any]:
        """The rows of detection, and the angles."""
        return detection.STRATEGY.rows(raw[:-1]) | {"angles": raw[-1:].astype(np.float64)}

    def sketch(self, raw: Floats) -> dict[str, Any]:
        """The sketch of detection, and the angles of the same anchors."""
        found = detection.STRATEGY.sketch(raw[:-1])
        return found | {"angles": raw[-1:, self.told(raw[:-1])].astype(np.float64)}

    def rounding(self, raw: Floats) -> dict[str, Any]:
        """The uncertainty of detection's rows, and that of angles, in proportion to the largest."""
        return detection.STRATEGY.rounding(raw[:-1]) | {"angles": sketches.ULPS * np.abs(raw[-1:]).max(axis=1)}


STRATEGY = OrientedDetectionTask()
