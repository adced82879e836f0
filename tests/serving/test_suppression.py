"""Non-maximum suppression, and the steps around it, give what ultralytics gives for the same raw output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from ultralytics.utils import nms, ops

from pelagos_contract import suppression
from pelagos_pipelines.serving import geometry, predictions
from pelagos_pipelines.serving.tasks import detection

ORIGINAL = (640, 300)


def make_raw(seed: int, classes: int, anchors: int = 400) -> predictions.Floats:
    """A detector's output ``[4 + classes, anchors]`` with many overlapping boxes."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(1, 6, (2, anchors)) * 30 + generator.normal(0, 4, (2, anchors))
    sizes = generator.uniform(10, 60, (2, anchors))
    return np.concatenate((centres, sizes, generator.uniform(0, 1, (classes, anchors)))).astype(np.float32)


@pytest.mark.parametrize("confidence", [0.001, 0.25, 0.9])
@pytest.mark.parametrize("classes", [1, 3, 40])
@pytest.mark.parametrize("limit", [5, 300, 3000])
def test_detections_are_those_of_ultralytics(classes: int, confidence: float, limit: int) -> None:
    raw = make_raw(classes + limit, classes)
    at = geometry.fit(*ORIGINAL, 192, 32)
    got = detection.detections(raw, at, ORIGINAL, predictions.Thresholds(confidence, 0.7, limit))
    want = nms.non_max_suppression(torch.from_numpy(raw)[None], confidence, 0.7, max_det=limit)[0]
    boxes = ops.scale_boxes((at.canvas_height, at.canvas_width), want[:, :4], (ORIGINAL[1], ORIGINAL[0]))
    assert got.class_ids.tolist() == want[:, 5].int().tolist()
    np.testing.assert_allclose(got.scores, want[:, 4].numpy())
    np.testing.assert_allclose(got.boxes, boxes.numpy(), atol=1e-3)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7, 1.0])
def test_boxes_of_all_sizes_are_suppressed_as_torchvision_does(iou: float) -> None:
    generator = np.random.default_rng(3)
    for largest in (12, 60, 600):
        centres, sizes = generator.uniform(0, 640, (2000, 2)), generator.uniform(0, largest, (2000, 2))
        boxes = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1).astype(np.float32)
        scores = generator.uniform(0, 1, 2000).astype(np.float32)
        boxes = boxes[np.argsort(-scores, kind="stable")]
        want = torchvision.ops.nms(torch.from_numpy(boxes), torch.arange(2000, 0, -1).float(), iou).tolist()
        assert suppression.nms(boxes, iou) == (want, False)
        limit = len(want) // 2
        assert suppression.nms(boxes, iou, limit) == (want[:limit], True)


def make_crowd(objects: int) -> predictions.Floats:
    """Exactly one box with a high score for each of the objects, which lie in a grid."""
    centres = np.stack(np.divmod(np.arange(objects), 40)).astype(np.float32) * 12 + 8
    return np.concatenate((centres, np.full((2, objects), 8), np.linspace(0.9, 0.3, objects)[None])).astype(np.float32)


@pytest.mark.parametrize(("limit", "cut"), [(300, True), (599, True), (600, False), (3000, False)])
def test_an_answer_that_leaves_some_out_says_so(limit: int, cut: bool) -> None:
    at = geometry.fit(640, 640, 640, 32)
    found = detection.detections(make_crowd(600), at, (640, 640), predictions.Thresholds(max_detections=limit))
    assert (len(found.scores), found.cut) == (min(limit, 600), cut)
    assert found.render(["copepod"])["cut"] is cut


def test_candidates_that_are_not_looked_at_are_said_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "MAX_CANDIDATES", 500)
    at = geometry.fit(640, 640, 640, 32)
    found = detection.detections(make_crowd(600), at, (640, 640), predictions.Thresholds())
    assert (len(found.scores), found.cut) == (500, True)


def test_nothing_above_the_threshold_gives_empty_detections() -> None:
    at = geometry.fit(*ORIGINAL, 192, 32)
    got = detection.detections(make_raw(0, 2) * 0, at, ORIGINAL, predictions.Thresholds())
    assert got.boxes.shape == (0, 4)
    assert got.scores.shape == got.class_ids.shape == (0,)
