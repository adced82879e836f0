"""The head of Mask R-CNN (He et al. 2017, arXiv:1703.06870): boxes after NMS in the graph, and in each a mask of 28 x 28.

For each image, its outputs are ``objects`` [301, 6], with x1, y1, x2, y2 in pixels of the canvas, score and class, best first and
padded with zeros; and ``masks`` [301, 28, 28], the probability that each part of such a box belongs to the object. Then come the
network's outputs for fixed boxes (FIXED), which do not depend on a choice among thousands of candidates: ``classes``
[1 + classes, 9], logits, those of the background first; ``boxes`` [4 * (1 + classes), 9], sides in pixels of the canvas; and
``drawings`` [classes, 9 * 49], logits of masks. Last come ``anchors`` [15, n] of the last level: for three shapes at each of n
places, how much they look like an object, and by how much to move them. See training/maskrcnn_networks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pelagos_contract import suppression
from pelagos_contract.run_lengths import Part
from pelagos_pipelines.serving import geometry, sketches
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Floats, Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks.detection import CLASS_OFFSET
from pelagos_pipelines.serving.tasks.instance_segmentation import Candidates, InstanceHead, Instances, instances

OUTPUTS = ("objects", "masks", "classes", "boxes", "drawings", "anchors")
MOST = 300
"""The most objects of an image. The output has one row more, which shows whether there are more."""
LEAST = 0.05
"""The least score of an object, as in torchvision; the graph leaves others out."""
IOU = 0.5
"""The IoU of boxes of one class above which the graph keeps only the better one, as in torchvision."""
FIXED = (
    (0.0, 0.0, 1.0, 1.0),
    *((x, y, x + 0.5, y + 0.5) for x in (0.0, 0.5) for y in (0.0, 0.5)),
    *((x, y, x + 0.25, y + 0.25) for x in (0.125, 0.625) for y in (0.125, 0.625)),
)
"""The fixed boxes, x1, y1, x2, y2 in fractions of the canvas's sides."""
INSIDE = 0.5
"""The probability that a pixel must exceed to be part of an object."""
_SWAPPED = 2
"""How many of the best objects may be exchanged when two runtimes choose between boxes of about the same score in NMS."""
_LAYERS = 100
"""About how many roundings add up on the way through a network."""
_VALUES = 16_384
"""The most numbers of each kind in a sketch, unless it has more rows."""


class MaskRcnn(InstanceHead):
    """Implements `InstanceHead`, which documents its methods, for Mask R-CNN."""

    at_once = 1

    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Instances:
        """Decode objects. NMS runs again if a lower IoU is requested than the graph uses."""
        objects, masks = raw[0], raw[1]
        chosen = np.flatnonzero((objects[:, 4] > 0) & np.isfinite(objects).all(axis=1))
        chosen = chosen[objects[chosen, 4] > thresholds.least(objects[chosen, 5].astype(np.int32))]
        limit, cut = min(thresholds.max_detections, MOST), False
        if thresholds.iou < IOU:
            apart = objects[chosen, 5:] * CLASS_OFFSET
            kept, cut = suppression.nms(objects[chosen, :4] + apart, thresholds.iou, limit)
            chosen = chosen[kept]
        cut, chosen = cut or len(chosen) > limit, chosen[:limit]
        at = geometry.fit(*image.shown, settings.image_size, settings.stride)
        scale = np.array([at.width / image.width, at.height / image.height] * 2, np.float32)
        boxes = (objects[chosen, :4] - np.array([at.left, at.top] * 2, np.float32)) / scale
        boxes = boxes.clip(0, np.array([image.width, image.height] * 2, np.float32)).astype(np.float32)
        found = Candidates(objects[chosen, 4], objects[chosen, 5].astype(np.int32), boxes, cut)
        return instances(
            image, found, lambda place: pasted(masks[chosen[place]], boxes[place], image.width, image.height)
        )

    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """The outputs for the fixed boxes, as probabilities, because the order of objects may differ between runtimes."""
        odds = np.exp(raw[2] - raw[2].max(axis=0))
        return raw[3], odds / odds.sum(axis=0)

    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a class, a side of its boxes, its masks, or a row of the anchors."""
        named = ["the background", *(f"class {label!r}" for label in labels)]
        if kind == "scores":
            return "the scores of what is found"
        if kind == "boxes":
            return f"{('x1', 'y1', 'x2', 'y2')[index % 4]} of the boxes of {named[index // 4]}"
        if kind == "drawings":
            return f"the masks of {named[index + 1]}"
        return named[index] if kind == "classes" else f"row {index + 1} of the anchors"

    def rows(self, raw: Raw) -> dict[str, Any]:
        """The ``scores`` of objects, without their masks and boxes, and all outputs for fixed boxes and anchors."""
        known = {name: np.asarray(output, np.float64) for name, output in zip(OUTPUTS[2:], raw[2:], strict=True)}
        return {"scores": raw[0][None, :, 4].astype(np.float64), **known}

    def sketch(self, raw: Raw) -> dict[str, Any]:
        """Some columns of each kind, evenly spread."""
        return {
            kind: values[:, np.linspace(0, values.shape[1] - 1, _columns(values)).astype(int)]
            for kind, values in self.rows(raw).items()
        }

    def rounding(self, raw: Raw) -> dict[str, Any]:
        """The uncertainty of a kind's largest number; for scores, the effect of exchanging _SWAPPED objects."""
        scores = raw[0][:, 4].astype(np.float64)
        exchanged = np.sqrt(_SWAPPED / len(scores)) * max(scores[0], LEAST) / 2
        undecided = {
            kind: np.full(len(values), _LAYERS * sketches.ULPS * max(float(np.abs(values).max()), 1.0))
            for kind, values in self.rows(raw).items()
        }
        return undecided | {"scores": np.array([exchanged])}


def pasted(mask: Floats, box: Floats, width: int, height: int) -> Part:
    """The pixels, in an image, of an object with ``mask`` [side, side] in ``box`` (x1, y1, x2, y2).

    As in torchvision.models.detection.roi_heads.paste_masks_in_image: with a margin of zeros, and boxes cut to whole pixels.
    """
    side = len(mask)
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32((side + 2) / side)
    middle = (box[2:] + box[:2]) * np.float32(0.5)
    (left, top), (right, bottom) = (middle - half).astype(np.int64).tolist(), (middle + half).astype(np.int64).tolist()
    columns, rows = max(right - left + 1, 1), max(bottom - top + 1, 1)
    inside = cv2.resize(np.pad(mask, 1), (columns, rows), interpolation=cv2.INTER_LINEAR) > INSIDE
    across = slice(max(-left, 0), max(min(width - left, columns), 0))
    down = slice(max(-top, 0), max(min(height - top, rows), 0))
    return Part(max(left, 0), max(top, 0), inside[down, across])


def _columns(values: Any) -> int:
    return min(max(_VALUES // len(values), 1), int(values.shape[1]))


STRATEGY = MaskRcnn()
