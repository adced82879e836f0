"""A package for turned boxes in a real Triton answers what ``YOLO(best.pt).predict(image)`` gives with its defaults."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics import YOLO

from pelagos_contract.training import Parity
from pelagos_pipelines.export import package, parity
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.oriented_detection import OrientedDetections, canonical
from pelagos_pipelines.training import yolov8_obb
from serving.conftest import Server
from serving.detectors import LABELS, SIZES, make_checkpoint, make_image


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("detector") / "best.pt", turned=True)


@pytest.fixture(scope="module")
def served(triton: Server, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    onnx = checkpoint.with_name("model.onnx")
    settings = yolov8_obb.FAMILY.export(checkpoint, onnx)
    probe = make_image(320, 240, 1)
    (known,) = yolov8_obb.FAMILY.predict(checkpoint, [probe], Thresholds())
    content = package.Content(
        family="YOLOv8-obb",
        architecture="yolov8n-obb",
        dataset={"name": "clouds", "version": "sha256:0"},
        settings=settings,
        onnx=onnx,
        parity=Parity(images=1, boxes=0, scores=0),
        probe=probe,
        known=known,
    )
    triton.load(package.write(content, tmp_path_factory.mktemp("store")).folder, "turned")
    return triton


def test_images_of_mixed_sizes_give_the_turned_boxes_of_the_training_framework(
    served: Server, checkpoint: Path, tmp_path: Path
) -> None:
    reference = YOLO(checkpoint)
    images = [bytes(cv2.imencode(".png", make_image(*size, seed=1))[1].tobytes()) for size in SIZES]
    answer = served.infer("turned", images)
    for row, (width, height) in enumerate(SIZES):
        file = tmp_path / f"{row}.png"
        file.write_bytes(images[row])
        boxes = reference.predict(file, verbose=False, save=False)[0].obb
        ids, count = boxes.cls.numpy().astype(np.int32), int(answer["count"][row, 0])
        want = OrientedDetections(width, height, canonical(boxes.xywhr.numpy()), boxes.conf.numpy(), ids)
        got = [answer[name][row, :count] for name in ("boxes", "scores", "class_ids")]
        assert count == len(want.scores) > 0
        parity.compare([want], [OrientedDetections(width, height, *got)], Thresholds().confidence)

        rendered = json.loads(answer["prediction"][row, 0])
        assert (rendered["task"], rendered["width"], rendered["height"]) == ("OrientedDetection", width, height)
        found = rendered["detections"]
        assert {one["label"] for one in found} <= set(LABELS)
        np.testing.assert_allclose([one["box"] for one in found], got[0], atol=6e-3)
        np.testing.assert_allclose(
            np.reshape([one["corners"] for one in found], (-1, 8)), answer["corners"][row, :count], atol=6e-3
        )
