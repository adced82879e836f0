"""A dataset version as training and evaluation read it: images by split with their true classes and boxes.

Tasks read it once and hand it to families and metrics. It knows the files of a version (contract 0001), no framework.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pelagos_pipelines.contract import SPLITS, Reason, RefusedError, Split, TrainingRequest
from pelagos_pipelines.serving import predictor
from pelagos_pipelines.serving.predictor import Pixels


@dataclass(frozen=True)
class Sample:
    """One image: ``class_ids`` [n], and for detection ``boxes`` [n, 4] x1, y1, x2, y2 in pixels of the original."""

    name: str
    file: Path
    class_ids: Any
    boxes: Any

    def pixels(self) -> Pixels:
        """The decoded image, as the server decodes it."""
        return predictor.decode(self.file.read_bytes())


@dataclass(frozen=True)
class Truth:
    """A dataset version in memory, without pixels."""

    labels: tuple[str, ...]
    by_split: dict[Split, tuple[Sample, ...]]

    def samples(self, split: Split) -> Sequence[Sample]:
        """The images of a split."""
        return self.by_split.get(split, ())


def read(request: TrainingRequest) -> Truth:
    """Read the version that a training names.

    Raises:
        RefusedError: DATASET_NOT_READABLE when files are missing or malformed, TASK_MISMATCH, or SPLIT_IMPOSSIBLE when a split
            that training cannot do without is empty.
    """
    folder = Path(request.dataset.uri)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        annotations = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
        known = _join(folder, manifest, annotations)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            Reason.DATASET_NOT_READABLE,
            f"version {request.dataset.version} of dataset {request.dataset.name!r} cannot be read at {folder}:"
            f" {type(error).__name__}: {error}; prepare the dataset again",
            "dataset.uri",
        ) from error
    for split in SPLITS:
        if not known.samples(split):
            raise RefusedError(
                Reason.SPLIT_IMPOSSIBLE,
                f"dataset {request.dataset.name!r} has no images in the split {split!r}; training needs all of"
                f" {', '.join(SPLITS)}: give each a share in the dataset's spec.split.ratios, or add images",
                "dataset",
            )
    return known


def _join(folder: Path, manifest: Any, annotations: Any) -> Truth:
    labels = tuple(manifest["classes"])
    ids = {label: index for index, label in enumerate(labels)}
    marks = {image["path"]: image for image in annotations["images"]}
    by_split: dict[Split, list[Sample]] = {split: [] for split in SPLITS}
    for image in manifest["images"]:
        mark = marks[image["path"]]
        if "class" in mark:
            class_ids, boxes = [ids[mark["class"]]], []
        else:
            class_ids = [ids[box["class"]] for box in mark["boxes"]]
            boxes = [_corners(box) for box in mark["boxes"]]
        digest = image["sha256"]
        file = folder / ".." / ".." / "blobs" / digest[:2] / digest[2:]
        sample = Sample(image["path"], file, np.array(class_ids, int), np.array(boxes, float).reshape(-1, 4))
        by_split[image["split"]].append(sample)
    return Truth(labels, {split: tuple(samples) for split, samples in by_split.items()})


def _corners(box: Any) -> tuple[float, float, float, float]:
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
