"""The whole way, from pixels to mAP, gives what ``YOLO(best.pt).val()`` gives.

Images have the network's own size, so that both sides see the same pixels: validation pads others more than prediction does.
There is one class only, because validation lets a box stand for several classes, and prediction and serving do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml
from ultralytics import YOLO

from pelagos_pipelines.evaluation import detection
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import mean
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.training import yolov8
from serving.detectors import SIZE, make_checkpoint, make_image

LABELS = ("copepod",)


def make_collection(folder: Path, checkpoint: Path) -> list[Sample]:
    """Images whose truth is the detector's most confident boxes, slightly moved, and some boxes that it cannot know."""
    generator = np.random.default_rng(0)
    images = [make_image(SIZE, SIZE, seed) for seed in range(8)]
    samples = []
    for index, found in enumerate(yolov8.FAMILY.predict(checkpoint, images, Thresholds(confidence=0.35))):
        assert isinstance(found, Detections)
        chosen = generator.random(len(found.scores)) < 0.7
        limits = np.array([found.width, found.height] * 2)
        sides = np.tile(found.boxes[chosen][:, 2:] - found.boxes[chosen][:, :2], 2)
        boxes = found.boxes[chosen] + generator.normal(0, 0.05, sides.shape) * sides
        boxes = np.concatenate((boxes, [[2, 2, 20, 20]]))
        ids = np.concatenate((found.class_ids[chosen], [0]))
        # Validation does not cut predictions at the border, so true boxes there would match differently.
        inside = (boxes > 1).all(axis=1) & (boxes < limits - 1).all(axis=1)
        samples.append(write_sample(folder, f"{index:02d}.png", images[index], boxes[inside], ids[inside]))
    return samples


def write_sample(
    folder: Path, name: str, image: npt.NDArray[np.uint8], boxes: npt.NDArray[Any], ids: npt.NDArray[Any]
) -> Sample:
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True, exist_ok=True)
    file = folder / "images" / "val" / name
    cv2.imwrite(str(file), image)
    height, width = image.shape[:2]
    rows = [
        f"{class_id} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}\n"
        for class_id, (x1, y1, x2, y2) in zip(ids, boxes, strict=True)
    ]
    (folder / "labels" / "val" / name).with_suffix(".txt").write_text("".join(rows))
    return Sample(name, file, ids, boxes)


def test_map_is_that_of_its_validation(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "best.pt", LABELS)
    samples = make_collection(tmp_path, checkpoint)
    data = tmp_path / "data.yaml"
    content = {"path": str(tmp_path), "train": "images/val", "val": "images/val", "names": dict(enumerate(LABELS))}
    data.write_text(yaml.safe_dump(content))
    want = YOLO(checkpoint).val(
        data=str(data),
        imgsz=SIZE,
        batch=1,
        workers=0,
        plots=False,
        verbose=False,
        rect=False,
        project=str(tmp_path),
        device="cpu",
    )
    pixels = [sample.pixels() for sample in samples]
    predictions = yolov8.FAMILY.predict(checkpoint, pixels, Thresholds(confidence=0.001))
    found = [prediction for prediction in predictions if isinstance(prediction, Detections)]
    got = detection.score(samples, found, len(LABELS))
    assert want.box.map50 > 0.3, "the comparison means something"
    assert abs(mean(got.map50) - want.box.map50) < 0.03
    assert abs(mean(got.map50_95) - want.box.map) < 0.03
