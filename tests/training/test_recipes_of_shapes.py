"""For every task, objects lie where their pixels are after all that a dataset declares, as trainings on shapes see them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.utils.ops import xywhr2xyxyxyxy

from pelagos_contract.families import by_architecture
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.training import yolov8
from pelagos_pipelines.training.families import Job, family_of
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import GROUND, make_request, make_truth, store

ARCHITECTURES = (
    "yolov8n-obb",
    "yolov8n-seg",
    "maskrcnn_mobilenet_v3_small_fpn",
    "mask2former_tiny-instance",
    "mask2former_tiny-semantic",
    "mask2former_tiny-panoptic",
)
LARGER = 3
SIDE = 128
RECIPES: dict[str, dict[str, Any]] = {
    "tiles": {"tile": {"size": 128, "overlap": 64, "minShare": 1}},
    # Not with tiles: where an object fills most of a tile, the correction tints the ground with the complementary colour.
    "smaller images": {"resize": {"longest": 160}, "color": "GrayWorld"},
}
STEPS: dict[str, Any] = {
    "balance": {"strategy": "Oversample", "target": 12},
    "augmentation": {
        "rotate": 40,
        "scale": 20,
        "translate": 5,
        "flipHorizontal": True,
        "flipVertical": True,
        "color": {"hue": 0, "saturation": 0, "brightness": 0, "contrast": 0},
        "blur": 0,
    },
}


def enlarged(sample: Sample, folder: Path) -> Sample:
    """The sample at `LARGER` times its width and height."""
    image = sample.pixels()
    height, width = image.shape[:2]
    file = folder / f"{sample.name}.large.png"
    cv2.imwrite(str(file), cv2.resize(image, None, fx=LARGER, fy=LARGER, interpolation=cv2.INTER_NEAREST))
    found = []
    for shape in sample.shapes:
        if shape.kind is Kind.MASK:
            inside = np.kron(masks.drawn(shape, width, height), np.ones((LARGER, LARGER), bool))
            found.append(masks.of_array(shape.label, inside, attributes=shape.attributes))
        else:
            turned = shape.coordinates[4:] if shape.kind is Kind.RECTANGLE else ()
            sides = shape.coordinates[: len(shape.coordinates) - len(turned)]
            found.append(Shape(shape.label, shape.kind, (*(LARGER * one for one in sides), *turned), shape.rings))
    return replace(sample, file=file, shapes=tuple(found))


def made(folder: Path, task: Task, preprocessing: dict[str, Any]) -> tuple[str, str]:
    """A version of larger images made by the real preparation: its URI and its digest."""
    truth = make_truth(folder / "drawn", (4, 2, 2), task)
    larger = {
        split: tuple(enlarged(sample, folder / "drawn") for sample in samples)
        for split, samples in truth.by_split.items()
    }
    store(folder / "data" / "source", GroundTruth(truth.labels, larger), task)
    request = {
        "source": {"volume": {"path": "source"}},
        "task": task,
        "split": {"policy": "Provided"},
        "cleaning": {"duplicates": {"action": "Keep"}},
        "preprocessing": {"normalization": "DatasetStatistics"} | preprocessing,
        **STEPS,
    }
    prepare(json.dumps(request), str(folder / "data"), str(folder / "store"), str(folder / "preparation"))
    result = json.loads((folder / "preparation" / "result.json").read_text())
    return result["uri"], result["version"]


def shown(request: TrainingRequest, folder: Path) -> list[tuple[Any, Any]]:
    """An epoch's images [side, side, 3] from 0 to 1, and the pixels that training takes for objects (of boxes the middle)."""
    truth = ground_truth.read(request)
    job, family = Job(request, truth, folder, None), family_of(request)
    if isinstance(family, yolov8.YoloV8):
        history = TrainingHistory(folder / "history.json", Tracker("", ""))
        trainer = family.TRAINER(yolov8._arguments(job), job, history, None, None)
        trainer.model, trainer.data = SimpleNamespace(stride=torch.tensor([32.0])), trainer.get_dataset()
        dataset = trainer.build_dataset(trainer.data["train"], "train", 4)
        return [of_ultralytics(dataset[place]) for place in range(len(dataset))]
    learner = family.learner(job)  # type: ignore[attr-defined]
    learner.prepare(torch.device("cpu"))
    batch = learner.batch(range(len(truth.trained_on())), np.random.default_rng(4))
    if isinstance(batch, tuple):
        given, targets = batch
        drawings, classes = [one["masks"] for one in targets], [one["labels"] for one in targets]
    else:
        given, drawings, classes = batch.images, batch.masks, batch.classes
    assert truth.statistics is not None
    mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in (truth.statistics.mean, truth.statistics.deviation))
    ground = truth.labels.index(GROUND) if GROUND in truth.labels else -1
    found = []
    for image, drawn, of in zip(given, drawings, classes, strict=True):
        inside = drawn[of != ground].bool().any(dim=0)
        found.append(((image * deviation + mean).permute(1, 2, 0).numpy(), inside.numpy()))
    return found


def of_ultralytics(item: dict[str, Any]) -> tuple[Any, Any]:
    image = item["img"].permute(1, 2, 0).numpy() / 255
    side = image.shape[0]
    inside: Any = np.zeros((side, side), np.uint8)
    if "masks" in item:
        inside = cv2.resize(item["masks"][0].numpy().astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    else:
        for box in item["bboxes"].numpy():
            middle = box * (side, side, side / 4, side / 4, 1)
            corners = xywhr2xyxyxyxy(middle)
            cv2.fillPoly(inside, [np.round(corners).astype(np.int32)], 1)
    return image, inside > 0


CASES = [
    *((architecture, "tiles") for architecture in ARCHITECTURES),
    ("yolov8n-obb", "smaller images"),
    ("mask2former_tiny-semantic", "smaller images"),
]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task, str], tuple[str, str]]:
    """One version per task and recipe, made on first use."""

    @functools.cache
    def version(task: Task, recipe: str) -> tuple[str, str]:
        return made(tmp_path_factory.mktemp("version"), task, RECIPES[recipe])

    return version


@pytest.mark.parametrize(("architecture", "recipe"), CASES)
def test_objects_lie_where_their_pixels_do_whatever_a_dataset_declares(
    architecture: str, recipe: str, versions: Callable[[Task, str], tuple[str, str]], tmp_path: Path
) -> None:
    """Colours corrected, scaled, balanced and augmented; with tiles, or with images made smaller."""
    task = by_architecture()[architecture].task
    request = make_request(architecture, *versions(task, recipe), imageSize=SIDE)

    images = shown(request, tmp_path)

    assert sum(bool(inside.any()) for _, inside in images) >= 4
    edge: Any = np.ones((9, 9), np.uint8)  # ultralytics' masks have a quarter of the resolution
    for image, inside in images:
        # Objects are coloured; the ground and the padding around an image are grey.
        coloured = np.ptp(image, axis=2) > 0.3
        if task is Task.ORIENTED_DETECTION:
            # Check the middle of a box only: the rest may lie beyond the image's edge.
            assert (coloured & inside).sum() >= 0.5 * inside.sum()
            continue
        near = cv2.dilate(inside.astype(np.uint8), edge) > 0
        core = cv2.erode(inside.astype(np.uint8), edge) > 0
        slivers = 60  # pixels of objects that a tile shows too little of to keep
        assert (coloured & ~near).sum() <= slivers
        assert (core & ~coloured).sum() <= 0.02 * core.sum() + 20
