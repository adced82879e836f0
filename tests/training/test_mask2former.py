"""Mask2Former beyond what all families fulfil: what its masks mean, and the way from a version to a package that is served."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelagos.engines.triton.package import Manifest
from pelagos.engines.triton.tasks import TASKS
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingResult
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.serving import predictor
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.training import classifier_augmentation, mask2former, mask2former_networks
from pelagos_pipelines.training.altering import Examples
from pelagos_pipelines.training.families import Job
from training.shapes import GROUND, make_request, make_truth, make_version


def test_a_version_becomes_a_package_of_whose_classes_one_has_no_objects(tmp_path: Path) -> None:
    """The training has learned little, but what is served must still equal what was measured."""
    version = make_version(tmp_path, (4, 2, 3), Task.PANOPTIC_SEGMENTATION)
    request = make_request("mask2former_tiny-panoptic", *version, epochs=2)
    data, store, report, workspace = (str(tmp_path / name) for name in ("data", "models", "report", "workspace"))
    asked = request.model_dump_json(by_alias=True)
    perform(("train", "evaluate", "export"), asked, data, store, report, workspace, "", "")

    result = TrainingResult.model_validate_json((tmp_path / "report" / "result.json").read_text())
    assert {"test/PQ", "test/PQ-things", "test/PQ-stuff", f"test/PQ/{GROUND}"} <= result.metrics.keys()
    folder = Path(result.model.uri)
    manifest = Manifest.model_validate_json((folder / "package.json").read_bytes())
    assert manifest.stuff == [GROUND]
    known = json.loads((folder / "probe.json").read_text())
    TASKS.named(manifest.task).answer.model_validate(known)
    served = predictor.load(folder)
    assert served.settings.stuff == (GROUND,)


def test_masks_are_moved_as_their_images_are() -> None:
    """The image's red pixels are the mask, so both can be compared after any transformation."""
    canvas: Any = np.zeros((48, 48, 3), np.uint8)
    numbers: Any = np.zeros((48, 48), np.int16)
    canvas[10:30, 5:20, 2], numbers[10:30, 5:20] = 255, 1
    declared = Augmentation.model_validate({"rotate": 90, "scale": 30, "translate": 20, "color": {"contrast": 0}})
    canvases, moved = classifier_augmentation.altered_with_maps(
        [canvas] * 12, [numbers] * 12, declared, np.random.default_rng(0)
    )

    inside = canvases[..., 2] > 127
    assert (inside == (moved == 1)).mean() > 0.98
    assert len({found.tobytes() for found in moved}) == 12
    alone = classifier_augmentation.altered(np.stack([canvas] * 12), declared, np.random.default_rng(0))
    assert np.array_equal(alone, canvases), "classifiers see the same"


def test_the_sheet_shows_outlines_of_what_training_takes_for_objects(tmp_path: Path) -> None:
    truth = make_truth(tmp_path, (2, 1, 1), Task.PANOPTIC_SEGMENTATION)
    examples = Examples(truth.samples("train"), truth.labels, 2, 3, 64, 1, tmp_path)
    rows = list(mask2former.PANOPTIC.altered(Augmentation.model_validate({"rotate": 10}), examples))

    assert [len(row) for row in rows] == [3, 3]
    for altered in (one for row in rows for one in row):
        assert altered.pixels.shape == (64, 64, 3)
        assert len(altered.outlines) == len(altered.class_ids) > 0


def test_classes_of_pixels_have_one_mask_each_and_weigh_what_the_dataset_plans(tmp_path: Path) -> None:
    version = make_version(
        tmp_path, (4, 2, 2), Task.SEMANTIC_SEGMENTATION, balance={"strategy": "ClassWeights", "target": 5}
    )
    request = make_request("mask2former_tiny-semantic", *version)
    truth = ground_truth.read(request)
    assert truth.weights is not None
    learner = mask2former.SEMANTIC.learner(Job(request, truth, tmp_path, None))
    network = learner.build()
    assert network.criterion.empty_weight[:-1].tolist() == pytest.approx(list(truth.weights))
    assert "criterion.empty_weight" not in network.state_dict()

    learner.prepare(torch.device("cpu"))
    batch = learner.batch([0, 1, 2, 3], None)
    for drawn, classes in zip(batch.masks, batch.classes, strict=True):
        assert len(drawn) == len(classes) == len(set(classes.tolist())) > 0
        assert float(drawn.sum(dim=0).max()) == 1, "a pixel has one class"


def test_of_an_image_with_very_many_objects_the_largest_are_taught(tmp_path: Path) -> None:
    truth = make_truth(tmp_path, (2, 1, 1), Task.INSTANCE_SEGMENTATION)
    inside: Any = np.ones((2, 2), bool)
    many = [masks.of_array("disc", inside, (3 * x, 3 * y)) for x in range(25) for y in range(18)]
    large = masks.of_array("square", np.ones((6, 20), bool), (70, 60))
    crowded = replace(truth.samples("train")[0], shapes=(*many, large), class_ids=np.array([0] * len(many) + [1]))
    truth = replace(truth, by_split={**truth.by_split, "train": (crowded, *truth.samples("train")[1:])})
    request = make_request("mask2former_tiny-instance", imageSize=96)
    learner = mask2former.INSTANCE.learner(Job(request, truth, tmp_path, None))
    learner.prepare(torch.device("cpu"))
    batch = learner.batch([0], None)

    assert batch.masks[0].shape == (mask2former.MOST_TAUGHT, 96, 96)
    assert int((batch.classes[0] == 1).sum()) == 1


def test_an_image_without_annotations_teaches_that_there_is_nothing() -> None:
    torch.manual_seed(0)
    network = mask2former_networks.build("mask2former_tiny", 2).train()
    found = network(torch.rand(2, 3, 64, 64), [torch.zeros(0, 64, 64)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    losses = {name: loss.detach() for name, loss in found.items()}
    assert set(losses) == {"class-loss", "mask-loss", "dice-loss"}
    assert float(losses["mask-loss"]) == float(losses["dice-loss"]) == 0
    assert torch.isfinite(losses["class-loss"])


def test_networks_are_built_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert mask2former_networks.build("mask2former_tiny", 3) is not None


def test_scores_of_classes_and_of_none_are_shares_whatever_the_queries_say() -> None:
    """Queries that agree on a class add up to more than 1."""
    classes = torch.tensor([[[0.8, 0.1, 0.1]] * 5 + [[0.0, 0.1, 0.9]]])
    masks = torch.rand(1, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    found = mask2former_networks.of_pixels(classes, masks)

    assert found.shape == (1, 3, 4, 4)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert bool((found[:, 0] > found[:, 1]).all())
    assert torch.allclose(found[:, -1], 1 - found[:, :-1].amax(dim=1))
