"""A classification package in a real Triton answers as the training framework does."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pelagos_contract.training import Parity
from pelagos_pipelines.export import package
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.classification import Classification, normalise
from pelagos_pipelines.training import mobilenet_v3, torchvision_networks
from serving.conftest import Server
from serving.detectors import SIZES, make_image, scale_outputs, settle_statistics

LABELS = ("Acantharia", "Bacillariophyta", "Copepoda")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, scaled so that images get different answers."""
    torch.manual_seed(0)
    model = torchvision_networks.build("mobilenet_v3_small", len(LABELS))
    canvases = np.stack([geometry.square(make_image(*size, seed), 64) for seed in range(4) for size in SIZES])
    batches = [torch.from_numpy(normalise(canvases))]
    settle_statistics(model, batches)
    scale_outputs(model, model.classifier[3], batches, mean=0.0, deviation=1.0)
    path = tmp_path_factory.mktemp("classifier") / "best.pt"
    content = {
        "architecture": "mobilenet_v3_small",
        "labels": list(LABELS),
        "imageSize": 64,
        "model": model.state_dict(),
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def served(triton: Server, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    onnx = checkpoint.with_name("model.onnx")
    settings = mobilenet_v3.FAMILY.export(checkpoint, onnx)
    probe = make_image(60, 40, 0)
    (known,) = mobilenet_v3.FAMILY.predict(checkpoint, [probe], Thresholds())
    parity, dataset = Parity(images=1, boxes=0, scores=0), {"name": "clouds", "version": "sha256:0"}
    content = package.Content("MobileNetV3", "mobilenet_v3_small", dataset, settings, onnx, parity, probe, known)
    triton.load(package.write(content, tmp_path_factory.mktemp("store")).folder, "classifier")
    return triton


def test_probabilities_are_those_of_the_training_framework(served: Server, checkpoint: Path) -> None:
    images = [make_image(*size, seed=3) for size in SIZES]
    answer = served.infer("classifier", [cv2.imencode(".png", image)[1].tobytes() for image in images])
    want = np.stack(
        [
            found.probabilities
            for found in mobilenet_v3.FAMILY.predict(checkpoint, images, Thresholds())
            if isinstance(found, Classification)
        ]
    )
    assert np.ptp(want, axis=0).max() > 0.1, "the images are told apart"
    np.testing.assert_allclose(answer["probabilities"], want, atol=0.01)
    for row, size in enumerate(SIZES):
        rendered = json.loads(answer["prediction"][row, 0])
        assert (rendered["task"], rendered["width"], rendered["height"]) == ("Classification", *size)
        assert [item["classId"] for item in rendered["classes"]] == np.argsort(-want[row]).tolist()


def test_a_broken_image_gets_an_error_alone(served: Server) -> None:
    with pytest.raises(RuntimeError, match="is not JPEG, PNG"):
        served.infer("classifier", [b"GIF89a"])
    good = cv2.imencode(".jpg", make_image(60, 40, 1))[1].tobytes()
    assert served.infer("classifier", [good])["probabilities"].shape == (1, 3)


def test_every_image_of_a_request_has_its_result(served: Server) -> None:
    good = cv2.imencode(".jpg", make_image(60, 40, 1))[1].tobytes()

    answer = served.infer("classifier", [good, b"GIF89a"])

    alone = served.infer("classifier", [good])
    np.testing.assert_allclose(answer["probabilities"][0], alone["probabilities"][0], atol=1e-5)
    assert answer["probabilities"][1].tolist() == [0, 0, 0]
    assert answer["error"][0, 0] == ""
    refused = json.loads(answer["prediction"][1, 0])
    assert (refused["classes"], refused["error"]) == ([], answer["error"][1, 0])
    assert "is not JPEG, PNG" in refused["error"]
