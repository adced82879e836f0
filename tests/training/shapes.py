"""Small synthetic image collections: coloured shapes on a noisy ground, as truth in memory with files on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pelagos_contract import families
from pelagos_contract.dataset import SPLITS
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.steps.prepare import prepare

CLASSES = ("disc", "square")
COLOURS = ((40, 40, 200), (40, 160, 40))


def draw(image: Pixels, class_id: int, x: int, y: int, side: int) -> None:
    """A shape of the class in the square with the upper left corner ``x``, ``y``."""
    if class_id == 0:
        cv2.circle(image, (x + side // 2, y + side // 2), side // 2, COLOURS[0], -1)
    else:
        cv2.rectangle(image, (x, y), (x + side, y + side), COLOURS[1], -1)


def make_image(
    generator: np.random.Generator, width: int, height: int, shapes: list[tuple[int, int, int, int]]
) -> Pixels:
    """An image with ``shapes`` (class id, x, y, side) on noise."""
    image = generator.integers(180, 220, (height, width, 3), np.uint8)
    for shape in shapes:
        draw(image, *shape)
    return image


def make_sample(folder: Path, name: str, seed: int, detection: bool) -> Sample:
    """One image: a class in the middle, or one to three boxes."""
    generator = np.random.default_rng(seed)
    width, height = (96, 72) if detection else (48, 40)
    count = int(generator.integers(1, 4)) if detection else 1
    shapes = []
    for number in range(count):
        side = int(generator.integers(20, 30))
        x = int(generator.integers(0, width - side)) if detection else 10
        y = int(generator.integers(0, height - side)) if detection else 5
        shapes.append(((seed + number) % 2, x, y, side))
    content = cv2.imencode(".png", make_image(generator, width, height, shapes))[1].tobytes()
    digest = hashlib.sha256(content).hexdigest()
    # As a dataset version keeps it: by its content, which is compared when it is read.
    file = folder / digest[:2] / digest[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    ids = np.array([shape[0] for shape in shapes])
    boxes = np.array([[x, y, x + side, y + side] for _, x, y, side in shapes], float)
    return Sample(name, file, ids, boxes if detection else np.zeros((0, 4)))


def make_truth(folder: Path, counts: tuple[int, int, int], detection: bool) -> GroundTruth:
    """A collection with so many images in train, validation and test."""
    by_split = {}
    for offset, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        names = [(f"{split}-{index}.png", 1000 * offset + index) for index in range(count)]
        by_split[split] = tuple(make_sample(folder, name, seed, detection) for name, seed in names)
    return GroundTruth(CLASSES, by_split)


def make_request(architecture: str, uri: str = "", version: str = "sha256:0", **changes: object) -> TrainingRequest:
    """A request for one epoch on tiny images; ``changes`` are hyperparameters, or fields of the request itself."""
    hyperparameters = {"epochs": 1, "imageSize": 64, "batchSize": 4, "learningRate": "0.002"}
    fields = {
        name: value
        for name, value in changes.items()
        if name in TrainingRequest.model_fields or name == "earlyStopping"
    }
    hyperparameters |= {name: value for name, value in changes.items() if name not in fields}
    return TrainingRequest.model_validate(
        {
            "dataset": {"name": "shapes", "version": version, "uri": uri},
            "task": families.by_architecture()[architecture].task,
            "model": {"architecture": architecture},
            "hyperparameters": hyperparameters,
            "resources": {"cpu": 1},
            **fields,
        }
    )


def make_version(
    folder: Path, counts: tuple[int, int, int], detection: bool, boxless: Sequence[str] = (), **recipe: object
) -> tuple[str, str]:
    """A dataset version made by the real preparation: its uri and version. Images of the splits ``boxless`` show nothing.

    ``recipe`` are fields of the request beside the usual ones.
    """
    truth = make_truth(folder / "drawn", counts, detection)
    source = folder / "data" / "source"
    for split in SPLITS:
        for sample in truth.samples(split):
            shown = replace(sample, class_ids=sample.class_ids[:0], boxes=sample.boxes[:0])
            store_sample(source, split, shown if split in boxless else sample, detection)
    if detection:
        (source / "data.yaml").write_text(
            f"train: images/train\nval: images/validation\ntest: images/test\nnames: {list(CLASSES)}\n"
        )
    request = {
        "source": {"volume": {"path": "source"}},
        "task": "Detection" if detection else "Classification",
        "split": {"policy": "Provided"},
        "cleaning": {"duplicates": {"action": "Keep"}},
        **recipe,
    }
    report = folder / "preparation"
    prepare(json.dumps(request), str(folder / "data"), str(folder / "store"), str(report))
    result = json.loads((report / "result.json").read_text())
    return result["uri"], result["version"]


def store_sample(source: Path, split: str, sample: Sample, detection: bool) -> None:
    """One image of the source, in the YOLO layout or in a class folder."""
    if not detection:
        target = source / split / CLASSES[sample.class_ids[0]] / sample.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.file, target)
        return
    image, label = source / "images" / split / sample.name, source / "labels" / split / f"{Path(sample.name).stem}.txt"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sample.file, image)
    height, width = sample.pixels().shape[:2]
    rows = [
        f"{class_id} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}\n"
        for class_id, (x1, y1, x2, y2) in zip(sample.class_ids, sample.boxes, strict=True)
    ]
    label.write_text("".join(rows))
