"""Non-maximum suppression and what surrounds it gives what ultralytics gives for the same raw output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ultralytics.utils import nms, ops

from pelagos_pipelines.serving import geometry, predictor

ORIGINAL = (640, 300)


def make_raw(seed: int, classes: int, anchors: int = 400) -> predictor.Floats:
    """A detector's output ``[4 + classes, anchors]`` with many overlapping boxes."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(1, 6, (2, anchors)) * 30 + generator.normal(0, 4, (2, anchors))
    sizes = generator.uniform(10, 60, (2, anchors))
    return np.concatenate((centres, sizes, generator.uniform(0, 1, (classes, anchors)))).astype(np.float32)


@pytest.mark.parametrize("confidence", [0.001, 0.25, 0.9])
@pytest.mark.parametrize("classes", [1, 3, 40])
@pytest.mark.parametrize("limit", [5, 300])
def test_detections_are_those_of_ultralytics(classes: int, confidence: float, limit: int) -> None:
    raw = make_raw(classes + limit, classes)
    at = geometry.fit(*ORIGINAL, 192, 32)
    got = predictor.detections(raw, at, ORIGINAL, predictor.Thresholds(confidence, 0.7, limit))
    want = nms.non_max_suppression(torch.from_numpy(raw)[None], confidence, 0.7, max_det=limit)[0]
    boxes = ops.scale_boxes((at.canvas_height, at.canvas_width), want[:, :4], (ORIGINAL[1], ORIGINAL[0]))
    assert got.class_ids.tolist() == want[:, 5].int().tolist()
    np.testing.assert_allclose(got.scores, want[:, 4].numpy())
    np.testing.assert_allclose(got.boxes, boxes.numpy(), atol=1e-3)


def test_nothing_above_the_threshold_gives_empty_detections() -> None:
    at = geometry.fit(*ORIGINAL, 192, 32)
    got = predictor.detections(make_raw(0, 2) * 0, at, ORIGINAL, predictor.Thresholds())
    assert got.boxes.shape == (0, 4)
    assert got.scores.shape == got.class_ids.shape == (0,)
