"""A package for turned boxes in a real Triton answers what ``YOLO(best.pt).predict(image)`` gives with its defaults."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from ultralytics import YOLO

import model_packages
from pelagos.engines.triton import outputs as model_outputs
from pelagos.engines.triton import probe as model_probe
from pelagos.engines.triton.tasks.oriented_detection import STRATEGY
from pelagos.ports.serving import DesiredService
from pelagos_contract.training import Parity
from pelagos_pipelines.export import package, parity, probes
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.serving.tasks.oriented_detection import OrientedDetections, canonical
from pelagos_pipelines.training import yolov8_obb
from serving.conftest import Server
from serving.detectors import LABELS, SIZES, make_checkpoint, make_image

WANT = DesiredService(
    uid="u", namespace="n", name="s", model_name="m", package_uri="/p", onnx_sha256="0", manifest_sha256="1", max_batch_size=1,
    max_queue_delay=0, instances=1, confidence="0.25", iou="0.7", cpu=1, digest="d",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("detector") / "best.pt", turned=True)


@pytest.fixture(scope="module")
def packaged(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph, image = checkpoint.with_name("model.onnx"), make_image(320, 240, 1)
    settings = yolov8_obb.FAMILY.export(checkpoint, graph)
    exported = Predictor(graph.read_bytes(), settings)
    placed = exported.fitted(image)
    ((raw, known),) = yolov8_obb.FAMILY.prove(checkpoint, [image], Thresholds())
    (output,) = exported.outputs([placed])
    parity.compare_outputs(
        [raw], [output], exported.outputs([parity.with_noise(placed)]), task=settings.task, labels=LABELS
    )
    _, outputs = probes.choose(exported, [probes.Candidate(placed, raw, output, known)], Thresholds())
    content = package.Content(
        family="YOLOv8-obb",
        architecture="yolov8n-obb",
        dataset={"name": "clouds", "version": "sha256:0"},
        settings=settings,
        onnx=graph,
        parity=Parity(images=1, boxes=0, scores=0),
        probe=image,
        known=known,
        outputs=outputs,
    )
    return package.write(content, tmp_path_factory.mktemp("store")).folder


@pytest.fixture(scope="module")
def served(triton: Server, packaged: Path) -> Server:
    triton.load(packaged, "turned")
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


def test_the_operator_knows_the_model_by_its_answer_and_another_by_its_angles(
    served: Server, packaged: Path, tmp_path: Path
) -> None:
    known = model_probe.read(packaged)
    manifest = json.loads((packaged / "package.json").read_bytes())
    answer = json.loads(served.infer("turned", [known.image], raw=True)["prediction"][0, 0])
    assert len(answer["detections"]) > 3
    assert STRATEGY.compare(known.expected, answer, known.thresholds, WANT) is None
    assert model_outputs.compare(known.outputs or {}, answer, manifest["onnxSha256"]) is None

    graph = onnx.load(packaged / "model.onnx")
    last = next(node for node in graph.graph.node if graph.graph.output[0].name in node.output)
    last.output[0] = "before"
    turn = np.array([0.0] * 7 + [1.0], np.float32).reshape(1, 8, 1)
    graph.graph.initializer.append(numpy_helper.from_array(turn, "turn"))
    graph.graph.node.append(helper.make_node("Add", ["before", "turn"], [graph.graph.output[0].name]))
    altered, _ = model_packages.altered(packaged, tmp_path / "other", {"model.onnx": graph.SerializeToString()})
    served.load((tmp_path / "other").rename(tmp_path / altered), "other")
    answer = json.loads(served.infer("other", [known.image], raw=True)["prediction"][0, 0])
    told = model_outputs.compare(known.outputs or {}, answer, answer["onnxSha256"])
    assert "before thresholds, the angles differ by 1," in (told or "")
    assert "missing" in (STRATEGY.compare(known.expected, answer, known.thresholds, WANT) or "")
