"""Detectors of turned boxes are trained on boxes that lie where their organisms do, however images are augmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import OBBModel
from ultralytics.utils.nms import TorchNMS

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.families import YOLOV8_OBB
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import shapes
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.evaluation import ground_truth, turned
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.training import augmentation_sheet, yolov8, yolov8_obb
from pelagos_pipelines.training.altering import Examples
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import make_request, make_version


def bar(folder: Path, angle: float) -> Sample:
    """A bright bar on black, and its box."""
    shape = shapes.rectangle("disc", 30, 40, 60, 16, angle)
    points: Any = np.reshape(shapes.corners_of(shape), (4, 2))
    image: Any = np.zeros((96, 120, 3), np.uint8)
    cv2.fillPoly(image, [np.round(points * 16).astype(np.int32)], (255, 255, 255), cv2.LINE_AA, shift=4)
    file = folder / f"{angle}.png"
    cv2.imwrite(str(file), image)
    return Sample(file.name, file, np.zeros(1, int), np.zeros((0, 4)), shapes=(shape,))


def around(points: Any, more: float) -> Any:
    """The smallest turned box ``[1, 5]`` around the points, ``more`` pixels longer and wider, since points have no extent."""
    (x, y), (wide, high), angle = cv2.minAreaRect(points.astype(np.float32))
    return np.array([[x, y, wide + more, high + more, angle]])


def drawn(truth: GroundTruth, found: Sequence[Shape]) -> GroundTruth:
    """The truth with these annotations for the first training image."""
    first, *others = truth.samples("train")
    assert first.record is not None
    changed = replace(first, record=replace(first.record, shapes=tuple(found)))
    return replace(truth, by_split={**truth.by_split, "train": (changed, *others)})


@pytest.mark.parametrize(
    "declared",
    [{}, {"flipHorizontal": True, "flipVertical": True}, {"rotate": 180}, {"rotate": 45, "scale": 30, "translate": 10}],
    ids=lambda found: " ".join(found) or "nothing",
)
def test_boxes_turn_with_their_image(tmp_path: Path, declared: dict[str, object]) -> None:
    samples = [bar(tmp_path, angle) for angle in (0.0, 20.0, 90.0, 135.0)]
    place = tmp_path / "examples"
    place.mkdir()
    examples = Examples(samples, ("disc",), 4, 3, 128, 7, place)
    altered = [
        one
        for row in yolov8_obb.FAMILY.altered(Augmentation.model_validate(declared), examples)
        for one in row
        # An object that leaves the image partly is visible in part, and gets a box around that part.
        if len(one.outlines) == 1 and (one.boxes > 2).all() and (one.boxes < 126).all()
    ]
    assert len(altered) > 3
    for one in altered:
        bright = np.argwhere(one.pixels[..., 0] > 0.75 * one.pixels.max())[:, ::-1]
        (overlap,) = turned.iou([around(bright + 0.5, 1.0)], [around(one.outlines[0], 0.0)])
        assert overlap[0, 0] > 0.8


def test_an_image_with_boxes_beyond_its_edge_is_trained_on_and_so_are_boxes_that_cross(tmp_path: Path) -> None:
    """ultralytics drops images whose labels look invalid to it, and rows that it takes for duplicates."""
    version = make_version(tmp_path, (6, 3, 3), Task.ORIENTED_DETECTION)
    request = make_request("yolov8n-obb", *version, imageSize=32)
    crossing = [shapes.rectangle("disc", 20, 30, 50, 10, angle) for angle in (30.0, 150.0)]
    beyond = shapes.rectangle("disc", 60, 20, 70, 12, 45)
    worm = shapes.rectangle("disc", -22, 32, 140, 8, 30)  # longer than its image
    job = Job(request, drawn(ground_truth.read(request), (*crossing, beyond, worm)), tmp_path, None)
    trainer = yolov8_obb._Trainer(
        yolov8._arguments(job), job, TrainingHistory(tmp_path / "history.json", Tracker("", "")), None, None
    )
    trainer.model, trainer.data = OBBModel("yolov8n-obb.yaml", nc=2, verbose=False), trainer.get_dataset()
    dataset = trainer.build_dataset(trainer.data["train"], batch=4)
    assert dataset.ni == 6
    assert len(dataset.labels[0]["cls"]) == 4


def test_the_sheet_of_an_augmentation_shows_turned_boxes(tmp_path: Path) -> None:
    samples = [bar(tmp_path, 30.0)]
    place = tmp_path / "examples"
    place.mkdir()
    examples = Examples(samples, ("disc",), 1, 2, 128, 7, place)
    rows = list(yolov8_obb.FAMILY.altered(Augmentation(flip_vertical=True), examples))
    sheet = cv2.imdecode(np.frombuffer(augmentation_sheet.sheet(samples, rows, 128), np.uint8), cv2.IMREAD_COLOR)
    first = sheet[:, : augmentation_sheet.SIDE]
    blue = np.argwhere((first[..., 0] > 150) & (first[..., 2] < 60))
    _, sides, _ = cv2.minAreaRect(blue[:, ::-1].astype(np.float32))
    assert sorted(sides) == pytest.approx([16 * 160 / 120, 60 * 160 / 120], abs=4)


@pytest.mark.parametrize("architecture", YOLOV8_OBB.architectures)
def test_checkpoints_of_every_size_are_below_the_usual_ceiling(architecture: str) -> None:
    model = OBBModel(f"{architecture}.yaml", nc=80, verbose=False)
    held = sum(tensor.numel() * 4 for tensor in model.state_dict().values())

    assert 3 * held < Ceilings().checkpoint_mebibytes * MEBIBYTE


def test_suppression_of_upright_boxes_is_left_as_it_is() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]]), torch.tensor([0.9, 0.8, 0.7])
    assert TorchNMS.fast_nms(boxes, scores, 0.5).tolist() == [0, 2]
