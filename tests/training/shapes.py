"""Small synthetic image collections for every task: coloured shapes on a noisy background, as truth in memory and as files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pelagos_contract import families
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.annotations import masks, registry
from pelagos_pipelines.annotations import shapes as drawing
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.steps.prepare import prepare

CLASSES = ("disc", "square")
GROUND = "ground"
"""For tasks with a class that has no objects: the pixels that no shape covers."""
COLOURS = ((40, 40, 200), (40, 160, 40))
FORMATS: Mapping[Task, str] = {
    Task.ORIENTED_DETECTION: "Yolo",
    Task.INSTANCE_SEGMENTATION: "Coco",
    Task.SEMANTIC_SEGMENTATION: "Coco",
    Task.PANOPTIC_SEGMENTATION: "Coco",
}
"""The annotation format in which a source of shapes is written; class folders or YOLO for tasks that are not listed."""


def classes_of(task: Task) -> tuple[str, ...]:
    """The classes of a collection for a task."""
    return (*CLASSES, GROUND) if task is Task.PANOPTIC_SEGMENTATION else CLASSES


def draw(image: Pixels, class_id: int, x: int, y: int, side: int) -> None:
    """Draw a shape of the class into the square whose upper left corner is ``x``, ``y``."""
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


def make_sample(folder: Path, name: str, seed: int, task: Task) -> Sample:
    """One image. For classification it shows one class in the middle, for detection one to three objects."""
    if task in FORMATS:
        return _shaped_sample(folder, name, seed, task)
    detection = task is Task.DETECTION
    generator = np.random.default_rng(seed)
    width, height = (96, 72) if detection else (48, 40)
    count = int(generator.integers(1, 4)) if detection else 1
    shapes = []
    for number in range(count):
        side = int(generator.integers(20, 30))
        x = int(generator.integers(0, width - side)) if detection else 10
        y = int(generator.integers(0, height - side)) if detection else 5
        shapes.append(((seed + number) % 2, x, y, side))
    file = _stored(folder, make_image(generator, width, height, shapes))
    ids = np.array([shape[0] for shape in shapes])
    boxes = np.array([[x, y, x + side, y + side] for _, x, y, side in shapes], float)
    return Sample(name, file, ids, boxes if detection else np.zeros((0, 4)))


def _shaped_sample(folder: Path, name: str, seed: int, task: Task) -> Sample:
    """One image with one to three turned objects, twice as long as wide. Discs become ellipses, squares become rectangles.

    The annotations are exact: turned rectangles for boxes, polygons for instance outlines, and for the other tasks
    the visible pixels of each object, plus the ground where it is a class.
    """
    generator = np.random.default_rng(seed)
    width, height = 96, 72
    image: Pixels = generator.integers(180, 220, (height, width, 3), np.uint8)
    owners = np.full((height, width), -1)
    found = []
    for number in range(int(generator.integers(1, 4))):
        class_id, length = (seed + number) % 2, float(generator.integers(24, 34))
        reach = 0.56 * length  # from the centre to a corner, whatever the angle
        x, y = (float(generator.uniform(reach, side - reach)) for side in (width, height))
        angle = float(generator.integers(0, 180))
        label, box = CLASSES[class_id], (x - length / 2, y - length / 4, length, length / 2)
        rectangle = drawing.rectangle(label, *box, angle)
        body = rectangle if class_id else Shape(label, Kind.ELLIPSE, (x, y, length / 2, length / 4, angle))
        outline = drawing.outlined(body)
        assert outline is not None
        inside = masks.drawn(outline, width, height)
        image[inside], owners[inside] = COLOURS[class_id], number
        found.append(rectangle if task is Task.ORIENTED_DETECTION else outline)
    if task not in {Task.ORIENTED_DETECTION, Task.INSTANCE_SEGMENTATION}:
        seen = [(shape, owners == number) for number, shape in enumerate(found)]
        found = [masks.of_array(shape.label, inside) for shape, inside in seen if inside.any()]
    if task is Task.PANOPTIC_SEGMENTATION:
        found.append(masks.of_array(GROUND, owners < 0, attributes={"isthing": "false"}))
    ids = np.array([classes_of(task).index(shape.label) for shape in found])
    return Sample(name, _stored(folder, image), ids, np.zeros((0, 4)), shapes=tuple(found))


def _stored(folder: Path, image: Pixels) -> Path:
    """Store an image as a dataset version does: under its digest, which is checked when it is read."""
    content = cv2.imencode(".png", image)[1].tobytes()
    digest = hashlib.sha256(content).hexdigest()
    file = folder / digest[:2] / digest[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def make_truth(folder: Path, counts: tuple[int, int, int], task: Task) -> GroundTruth:
    """A collection with ``counts`` images in train, validation and test."""
    by_split = {}
    for offset, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        names = [(f"{split}-{index}.png", 1000 * offset + index) for index in range(count)]
        by_split[split] = tuple(make_sample(folder, name, seed, task) for name, seed in names)
    return GroundTruth(classes_of(task), by_split)


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
    folder: Path, counts: tuple[int, int, int], task: Task, boxless: Sequence[str] = (), **recipe: object
) -> tuple[str, str]:
    """Prepare a dataset version with the real step. Returns its URI and version. Images of splits in ``boxless`` show nothing.

    ``recipe`` holds further fields of the preparation request.
    """
    truth = make_truth(folder / "drawn", counts, task)
    shown = {
        split: tuple(replace(one, class_ids=one.class_ids[:0], boxes=one.boxes[:0], shapes=()) for one in samples)
        if split in boxless
        else samples
        for split, samples in truth.by_split.items()
    }
    store(folder / "data" / "source", replace(truth, by_split=shown), task)
    request = {
        "source": {"volume": {"path": "source"}},
        "task": task,
        "split": {"policy": "Provided"},
        "cleaning": {"duplicates": {"action": "Keep"}},
        **recipe,
    }
    report = folder / "preparation"
    prepare(json.dumps(request), str(folder / "data"), str(folder / "store"), str(report))
    result = json.loads((report / "result.json").read_text())
    return result["uri"], result["version"]


def store(source: Path, truth: GroundTruth, task: Task) -> None:
    """Write a source with the images of all splits: as class folders, or in an annotation format."""
    if task in FORMATS:
        _store_shaped(source, truth, task)
        return
    for split in SPLITS:
        for sample in truth.samples(split):
            store_sample(source, split, sample, task)
    if task is Task.DETECTION:
        (source / "data.yaml").write_text(
            f"train: images/train\nval: images/validation\ntest: images/test\nnames: {list(CLASSES)}\n"
        )


def _store_shaped(source: Path, truth: GroundTruth, task: Task) -> None:
    records, blobs = [], {}
    for split in SPLITS:
        for sample in truth.samples(split):
            height, width = sample.pixels().shape[:2]
            records.append(ImageRecord(sample.name, width, height, split=split, shapes=tuple(sample.shapes)))
            blobs[sample.name] = sample.file
    source.mkdir(parents=True)
    write = registry.FORMATS.named(FORMATS[task]).write
    assert write is not None
    write(source, Collection(task, truth.labels, tuple(records)), blobs)


def store_sample(source: Path, split: str, sample: Sample, task: Task) -> None:
    """Write one image of the source, in the YOLO layout or into a class folder."""
    if task is Task.CLASSIFICATION:
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
