"""A network's turned boxes are decoded as ultralytics decodes them, without holding all pairs in memory."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from ultralytics.utils import nms, ops
from ultralytics.utils.metrics import batch_probiou

from pelagos_contract import suppression
from pelagos_pipelines.serving import geometry, predictions
from pelagos_pipelines.serving.tasks import oriented_detection
from pelagos_pipelines.training import yolov8_obb

ORIGINAL = (640, 300)


def make_boxes(seed: int, count: int, largest: float = 60, extent: float = 200) -> predictions.Floats:
    """Boxes ``[count, 5]`` with angles in radians, many of which overlap."""
    generator = np.random.default_rng(seed)
    boxes = [
        generator.uniform(0, extent, (count, 2)),
        generator.uniform(0.5, largest, (count, 2)),
        generator.uniform(-math.pi / 4, 3 * math.pi / 4, (count, 1)),
    ]
    return np.concatenate(boxes, axis=1).astype(np.float32)


def make_raw(seed: int, classes: int, anchors: int = 400) -> predictions.Floats:
    """A detector's output ``[4 + classes + 1, anchors]``."""
    boxes = make_boxes(seed, anchors)
    scores = np.random.default_rng(seed + 1).uniform(0, 1, (anchors, classes)).astype(np.float32)
    return np.concatenate((boxes[:, :4], scores, boxes[:, 4:]), axis=1).T.copy()


def test_overlap_is_that_of_ultralytics() -> None:
    boxes, others = make_boxes(0, 50), make_boxes(1, 70)
    want = batch_probiou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(suppression.turned_overlap(boxes, others), want, atol=2e-5)


@pytest.mark.parametrize("iou", [0.05, 0.3, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("largest", [12, 60, 600])
def test_the_same_boxes_stay_as_in_ultralytics(iou: float, largest: int) -> None:
    boxes = make_boxes(largest, 1500, largest)
    scores = torch.arange(len(boxes), 0, -1).float()
    want = yolov8_obb._usual(torch.from_numpy(boxes), scores, iou, iou_func=batch_probiou).tolist()
    assert suppression.turned_nms(boxes, iou) == (want, False)
    limit = max(len(want) // 2, 1)
    assert suppression.turned_nms(boxes, iou, limit) == (want[:limit], len(want) > limit)


@pytest.mark.parametrize("confidence", [0.001, 0.25, 0.9])
@pytest.mark.parametrize(("classes", "limit"), [(1, 5), (3, 300), (40, 3000)])
def test_detections_are_those_of_ultralytics(classes: int, confidence: float, limit: int) -> None:
    raw = make_raw(classes + limit, classes)
    at = geometry.fit(*ORIGINAL, 192, 32)
    got = oriented_detection.oriented_detections(raw, at, ORIGINAL, predictions.Thresholds(confidence, 0.7, limit))
    given = torch.from_numpy(raw)[None]
    want = nms.non_max_suppression(given, confidence, 0.7, max_det=limit, nc=classes, rotated=True)[0]
    sides = ops.scale_boxes((at.canvas_height, at.canvas_width), want[:, :4], (ORIGINAL[1], ORIGINAL[0]), xywh=True)
    corners = ops.xywhr2xyxyxyxy(torch.cat((sides, want[:, -1:]), dim=1)).numpy()
    assert got.class_ids.tolist() == want[:, 5].int().tolist()
    np.testing.assert_allclose(got.scores, want[:, 4].numpy())
    ours = oriented_detection.corners(got.boxes.astype(np.float64))
    for one, other in zip(ours, corners, strict=True):
        apart = min(np.abs(np.roll(one, first, axis=0) - other[::way]).max() for first in range(4) for way in (1, -1))
        assert apart < 1e-2
    assert (got.boxes[:, 2] >= got.boxes[:, 3]).all(), "length is the longer side"
    assert ((got.boxes[:, 4] >= 0) & (got.boxes[:, 4] < 180)).all()


def test_thirty_thousand_boxes_take_little_memory() -> None:
    """ultralytics would hold several matrices of 3.6 GB."""
    boxes = make_boxes(5, 30_000, largest=8, extent=1280)
    tracemalloc.start()
    kept, _ = suppression.turned_nms(boxes, 0.7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) > 20_000
    assert peak < 100 * 2**20


def test_no_boxes_are_none() -> None:
    assert suppression.turned_nms(np.zeros((0, 5), np.float32), 0.7, 10) == ([], False)
