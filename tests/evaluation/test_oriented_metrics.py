"""Turned boxes are measured by their exact overlap, and otherwise like upright boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from ultralytics import YOLO

from pelagos_contract import suppression
from pelagos_pipelines.annotations import shapes, yolo_shapes
from pelagos_pipelines.evaluation import detection, turned
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import mean
from pelagos_pipelines.evaluation.tasks import oriented_detection
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.oriented_detection import OrientedDetections, corners
from pelagos_pipelines.training import yolov8_obb
from serving.detectors import SIZE, make_checkpoint, make_image

LABELS = ("diatom",)


def make_boxes(seed: int, count: int) -> Any:
    generator = np.random.default_rng(seed)
    centres, sides = generator.uniform(20, 60, (count, 2)), generator.uniform(1, 40, (count, 2))
    return np.concatenate((centres, sides, generator.uniform(-180, 180, (count, 1))), axis=1)


def iou_of_pixels(one: Any, other: Any, fine: int = 15) -> float:
    """The IoU by counting the points of a fine grid."""
    steps = (np.arange(100 * fine, dtype=np.float64) + 0.5) / fine
    inside = []
    for x, y, wide, high, angle in (one, other):
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        right, down = steps[None] - x, steps[:, None] - y
        within = (abs(right * cosine + down * sine) <= wide / 2) & (abs(down * cosine - right * sine) <= high / 2)
        inside.append(within)
    return float((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())


def iou(boxes: Any, others: Any) -> Any:
    (table,) = turned.iou([boxes], [others])
    return table


def test_iou_is_that_of_the_areas() -> None:
    boxes, others = make_boxes(0, 3), make_boxes(1, 3)
    got = iou(boxes, others)
    want = [[iou_of_pixels(one, other) for other in others] for one in boxes]
    assert np.max(want) > 0.2
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_iou_is_that_of_opencv() -> None:
    boxes, others = make_boxes(2, 60), make_boxes(3, 60)
    got = iou(boxes, others)
    for row, one in enumerate(corners(boxes)):
        for column, other in enumerate(corners(others)):
            shared, _ = cv2.intersectConvexConvex(one.astype(np.float32), other.astype(np.float32))
            areas = boxes[row, 2] * boxes[row, 3] + others[column, 2] * others[column, 3]
            assert got[row, column] == pytest.approx(shared / (areas - shared), abs=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_box_and_others_of_the_same_place_have_all_in_common(scale: float) -> None:
    boxes = make_boxes(4, 40) * (scale, scale, scale, scale, 1)
    half, quarter = np.array([0, 0, 0, 0, 180.0]), np.array([0, 0, 0, 0, 90.0])
    same = [boxes, boxes + half, boxes[:, [0, 1, 3, 2, 4]] + quarter, boxes * (1 + 1e-13)]
    for others in same:
        np.testing.assert_allclose(np.diag(iou(boxes, others)), 1, atol=1e-6)


def test_edges_that_touch_and_boxes_within_others_are_exact() -> None:
    square = np.array([[50, 50, 20, 20, 30]], float)
    turn = np.radians(30)
    step = np.array([np.cos(turn), np.sin(turn), 0, 0, 0])
    beside, half = square + 20 * step, square + 10 * step
    inner = square * (1, 1, 0.5, 0.5, 1)
    flat = square * (1, 1, 1, 0, 1)
    found = [float(iou(square, other)[0, 0]) for other in (beside, half, inner, flat)]
    np.testing.assert_allclose(found, [0, 1 / 3, 1 / 4, 0], atol=1e-7)
    assert iou(flat, flat)[0, 0] == 0
    assert iou(square, np.zeros((0, 5))).shape == (1, 0)


def sample_of(boxes: list[list[float]]) -> Sample:
    drawn = [
        shapes.rectangle("diatom", x - wide / 2, y - high / 2, wide, high, turn) for x, y, wide, high, turn in boxes
    ]
    return Sample("a.png", Path("a.png"), np.zeros(len(drawn), int), np.zeros((0, 4)), shapes=drawn)


def found_of(boxes: list[list[float]], scores: list[float]) -> OrientedDetections:
    ids: Any = np.zeros(len(boxes), np.int32)
    return OrientedDetections(100, 100, np.array(boxes, np.float32).reshape(-1, 5), np.array(scores, np.float32), ids)


def test_an_angle_that_is_wrong_costs_precision_where_much_overlap_is_asked_for() -> None:
    truth = sample_of([[50, 50, 40, 20, 30]])
    places = oriented_detection.STRATEGY.places
    for turn, (map50, map75) in {0: (1, 1), 20: (1, 0), 90: (0, 0), 180: (1, 1)}.items():
        scores = detection.score([truth], [found_of([[50, 50, 40, 20, 30 + turn]], [0.9])], 1, places)
        assert (round(mean(scores.map50), 6), round(mean(scores.map75), 6)) == (map50, map75), turn


def test_map_is_that_of_the_validation_of_ultralytics_where_overlap_is_measured_as_there(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "best.pt", LABELS, turned=True)
    generator = np.random.default_rng(0)
    samples = []
    images = [make_image(SIZE, SIZE, seed) for seed in range(5)]
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for index, predicted in enumerate(yolov8_obb.FAMILY.predict(checkpoint, images, Thresholds(confidence=0.35))):
        assert isinstance(predicted, OrientedDetections)
        boxes = predicted.boxes[generator.random(len(predicted.scores)) < 0.7].astype(float)
        boxes[:, :2] += generator.normal(0, 0.05, (len(boxes), 2)) * boxes[:, 2:4]
        boxes[:, 4] += generator.normal(0, 5, len(boxes))
        # ultralytics' validation drops images with corners far outside.
        points = corners(boxes)
        boxes = boxes[((points > 0) & (points < SIZE)).all(axis=(1, 2)) & (boxes[:, 3] > 3)]
        sample = sample_of([*boxes.tolist(), [20, 20, 20, 9, 45]])
        rows = [f"0 {yolo_shapes.row(shape, (SIZE, SIZE))}\n" for shape in sample.shapes]
        (tmp_path / "labels" / "val" / f"{index}.txt").write_text("".join(rows))
        cv2.imwrite(str(tmp_path / "images" / "val" / f"{index}.png"), images[index])
        samples.append(sample)
    data = tmp_path / "data.yaml"
    content = {"path": str(tmp_path), "train": "images/val", "val": "images/val", "names": dict(enumerate(LABELS))}
    data.write_text(yaml.safe_dump(content))
    how = {"imgsz": SIZE, "batch": 1, "workers": 0, "plots": False, "verbose": False, "rect": False, "device": "cpu"}
    want = YOLO(checkpoint).val(data=str(data), project=str(tmp_path), **how)
    predictions = yolov8_obb.FAMILY.predict(checkpoint, images, Thresholds(confidence=0.001))
    found = [one for one in predictions if isinstance(one, OrientedDetections)]
    exact = oriented_detection.STRATEGY.places
    theirs = replace(exact, overlaps=as_ultralytics)
    got = detection.score(samples, found, 1, theirs)
    assert want.box.map50 > 0.3, "the comparison means something"
    assert abs(mean(got.map50) - want.box.map50) < 0.03
    assert abs(mean(got.map50_95) - want.box.map) < 0.03
    assert mean(detection.score(samples, found, 1, exact).map50) > 0.3


def as_ultralytics(found: Sequence[Any], truth: Sequence[Any]) -> Iterator[Any]:
    for both in zip(found, truth, strict=True):
        radians = [np.concatenate((each[:, :4], np.radians(each[:, 4:])), axis=1) for each in both]
        yield suppression.turned_overlap(*radians)
