"""Reads a dataset version for training and evaluation: images by split with their true annotations.

Steps read it once and pass it to families and metrics. Independent of training frameworks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.splits import SPLITS, Split
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.evaluation import drawn_truth
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.preparation.versions import Version


def read(request: TrainingRequest, *, check_content: bool = False) -> GroundTruth:
    """Read the version that a training names; with ``check_content``, verify every image by its SHA-256.

    Raises:
        RefusedError: DATASET_NOT_READABLE when the version is damaged or not the requested one, TASK_MISMATCH, or
            SPLIT_IMPOSSIBLE when a split is empty, since training needs all of them.
    """
    version = versions.read(request.dataset.uri)
    if check_content:
        versions.verify(version)
    collection = version.collection
    found = version.digest.removeprefix("sha256:")
    if found != request.dataset.version.removeprefix("sha256:"):
        raise RefusedError(
            Reason.DATASET_NOT_READABLE,
            f"{request.dataset.uri} holds version {found}, but the run is for {request.dataset.version};"
            " name the folder of that version",
            "dataset.uri",
        )
    if collection.task is not request.task:
        raise RefusedError(
            Reason.TASK_MISMATCH,
            f"dataset {request.dataset.name!r} is annotated for {collection.task.value}, the architecture"
            f" {request.model.architecture} needs {request.task.value}; name a dataset or an architecture of the same task",
            "model.architecture",
        )
    truth = of_version(version)
    for split in SPLITS:
        if not truth.samples(split):
            raise RefusedError(
                Reason.SPLIT_IMPOSSIBLE,
                f"dataset {request.dataset.name!r} has no images in the split {split!r}; training needs all of"
                f" {', '.join(SPLITS)}: give each a share in the dataset's spec.split.ratios, or add images",
                "dataset",
            )
    return truth


def of_version(version: Version) -> GroundTruth:
    """The ground truth of a version, whose splits may be empty."""
    by_split: dict[Split, list[Sample]] = {split: [] for split in SPLITS}
    read_one = _reader(version)
    for image in version.collection.images:
        if image.split is not None:
            by_split[image.split].append(read_one(image))
    found_in = {split: tuple(samples) for split, samples in by_split.items()}
    return GroundTruth(
        version.collection.classes,
        found_in,
        version.preprocessing,
        version.statistics,
        version.balance,
        version.augmentation,
        _stuff(version.collection),
    )


def _stuff(collection: Collection) -> tuple[str, ...]:
    """The labels of stuff: classes with an annotation that is marked as such."""
    told = {shape.label for image in collection.images for shape in image.shapes if drawn_truth.is_stuff(shape)}
    return tuple(label for label in collection.classes if label in told)


def sample(version: Version, image: ImageRecord) -> Sample:
    """The sample of one image of the version."""
    return _reader(version)(image)


def _reader(version: Version) -> Callable[[ImageRecord], Sample]:
    strategy = TASKS.named(version.collection.task)
    ids = {label: index for index, label in enumerate(version.collection.classes)}
    repeats = version.balance.repeats if version.balance is not None else {}

    def read_one(image: ImageRecord) -> Sample:
        file = version.blobs[image.path]
        # For tasks with shapes, the boxes around them.
        sides = [(box.x, box.y, box.width, box.height) for box in image.boxes]
        sides += [shape.sides for shape in image.shapes if shape.sides is not None]
        corners = [(x, y, x + width, y + height) for x, y, width, height in sides]
        class_ids = np.array([ids[label] for label in strategy.marks(image)], int)
        digest = file.parent.name + file.name  # a store names its blobs by digest
        boxes = np.array(corners, float).reshape(-1, 4)
        color, times = version.preprocessing.color, repeats.get(image.path, 1)
        return Sample(
            image.path,
            file,
            class_ids,
            boxes,
            digest,
            color,
            times,
            image.shapes,
            source=image.file,
            group=image.group,
            capture=image.capture,
            crowds=image.crowds,
            crowd_ids=tuple(ids[crowd.label] for crowd in image.crowds),
            record=image,
        )

    return read_one
