"""What is specific to ultralytics' YOLOv8 classifiers: the scale of values, the networks' outputs, and the checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelagos_pipelines.serving.tasks.classification import normalise
from pelagos_pipelines.training import checkpoints, yolov8_cls

# isort: split
from ultralytics.nn.tasks import ClassificationModel

SMALLEST = "yolov8n-cls"


def test_networks_are_given_values_from_0_to_1_as_ultralytics_does() -> None:
    canvases: Any = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    scale = yolov8_cls.FAMILY.networks.usual
    assert scale is not None

    found = scale.apply(torch.from_numpy(normalise(canvases))).numpy()

    assert found == pytest.approx(canvases[..., ::-1].transpose(0, 3, 1, 2) / 255, abs=1e-6)


def test_after_training_a_network_gives_the_logits_of_what_ultralytics_gives() -> None:
    model: Any = yolov8_cls.build(SMALLEST, 3).eval()
    images = torch.rand(2, 3, 32, 32)

    with torch.inference_mode():
        found, (probabilities, _) = model(images), ClassificationModel.forward(model, images)

    assert torch.allclose(found.softmax(dim=1), probabilities)
    assert not torch.allclose(found.sum(dim=1), torch.ones(2), atol=1e-3)


def test_weights_of_a_checkpoint_of_ultralytics_are_taken(tmp_path: Path) -> None:
    donor = ClassificationModel(f"{SMALLEST}.yaml", nc=80, verbose=False)
    torch.save({"epoch": -1, "model": donor, "train_args": {}}, tmp_path / "start.pt")

    found = checkpoints.weights_of(tmp_path / "start.pt")
    wanted = yolov8_cls.build(SMALLEST, 2).state_dict()
    fitting = checkpoints.matching(found, wanted, yolov8_cls.FAMILY.networks.head, SMALLEST)

    assert torch.equal(fitting["model.0.conv.weight"], donor.state_dict()["model.0.conv.weight"])
    assert len(fitting) == len(wanted) - 2
