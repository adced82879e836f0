"""A version's images in the form of ultralytics' dataset: blobs of the store, and labels in memory. Used by yolov8_trainer.

ultralytics expects folders of images and label files, which it reads and checks again. Here the same content is built from the
version that the training has already read: numbers are the same to the last bit (`yolo_boxes.written`), and rows that ultralytics
would drop as repeated are left out. Nothing is written to disk.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data import build, utils
from ultralytics.data.dataset import YOLODataset

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import yolo, yolo_boxes, yolo_shapes
from pelagos_pipelines.annotations.acyclic import uncollected
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample

TRAIN, VALIDATION = "train", "validation"
"""Names that ultralytics uses as if they were the folders of images."""
_SAMPLES = "pelagosSamples"
"""The key of the samples, by those names, in the mapping that ultralytics uses as the content of data.yaml."""
_BLOB = re.compile(r"/([0-9a-f]{2})/([0-9a-f]{62})")
_MIXING: Any = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
"""Factors of a hash of rows. Different rows may have the same hash, so it only selects the images to be compared in full."""


def data(truth: GroundTruth) -> dict[str, Any]:
    """The content that ultralytics would read from a data.yaml, and the samples, except those that no epoch shows."""
    shown = {TRAIN: truth.trained_on(), VALIDATION: truth.samples("validation")}
    # By name, as in the folders that ultralytics would have read.
    samples = {place: sorted(some, key=lambda sample: sample.name) for place, some in shown.items()}
    names = dict(enumerate(truth.labels))
    return {"train": TRAIN, "val": VALIDATION, "names": names, "nc": len(names), "channels": 3, _SAMPLES: samples}


def samples_of(found: Mapping[str, Any], place: str) -> Sequence[Sample]:
    """The samples of a place, in ultralytics' order."""
    listed: Sequence[Sample] = found[_SAMPLES][place]
    return listed


class _Nowhere:
    """Replaces the paths of cached arrays that ultralytics would load from beside the images without any check."""

    def __get__(self, dataset: Any, kind: Any = None) -> Any:
        return self

    def __set__(self, dataset: Any, value: Any) -> None:
        pass

    def __getitem__(self, index: int) -> Path:
        return Path("/dev/null/none")


class Images(YOLODataset):  # type: ignore[misc]  # ultralytics is not typed
    """ultralytics' dataset, which takes images and labels from samples if it is given some."""

    npy_files = _Nowhere()

    def get_img_files(self, img_path: Any) -> list[str]:
        """The paths of the samples' blobs, in order."""
        if _SAMPLES not in self.data:
            found: list[str] = super().get_img_files(img_path)
            return found
        return [str(sample.file) for sample in samples_of(self.data, img_path)]

    def get_labels(self) -> list[dict[str, Any]]:
        """The samples' labels, in the form that ultralytics reads from files."""
        if _SAMPLES not in self.data:
            read: list[dict[str, Any]] = super().get_labels()
            return read
        samples, names = samples_of(self.data, self.img_path), self.data["names"].values()
        with uncollected():
            found = labels(samples, {name: index for index, name in enumerate(names)})
        self.verify_labels(found, Path(self.img_path))
        return found


build.YOLODataset = Images


def labels(samples: Sequence[Sample], ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The labels of samples of a version; ``ids`` numbers the classes.

    Raises:
        RefusedError: DATASET_NOT_READABLE for annotations that ultralytics would leave out, with their images.
    """
    records = [_record(sample) for sample in samples]
    drawn = any(record.shapes for record in records)
    rows = map(_drawn, records, [ids] * len(records)) if drawn else ((each, []) for each in _boxed(records, ids))
    return [
        {
            # The record's path, for messages about the image.
            "im_file": record.path,
            "shape": (record.height, record.width),
            "cls": each[:, 0:1],
            "bboxes": each[:, 1:],
            "segments": segments,
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }
        for record, (each, segments) in zip(records, rows, strict=True)
    ]


def require_same(file: str, content: bytes) -> None:
    """Raise RefusedError, DATASET_NOT_READABLE, if a blob's content does not have the digest that its path names."""
    named = _BLOB.fullmatch(file[-66:])
    if named is not None and hashlib.sha256(content).hexdigest() != named[1] + named[2]:
        raise RefusedError(
            Reason.DATASET_NOT_READABLE,
            f"the image {file} is damaged or was altered; restore it, or prepare the dataset again",
            "dataset.uri",
        )


def _record(sample: Sample) -> ImageRecord:
    if sample.record is None:
        raise ValueError(f"{sample.name} is no image of a version")
    return sample.record


def _boxed(records: Sequence[ImageRecord], ids: Mapping[str, int]) -> Iterator[Any]:
    """Class, centre and size of the boxes of each image, float32 [n, 5]."""
    classes, fractions, counts = yolo.fractions(records, ids)
    rows: Any = np.column_stack((classes, yolo_boxes.written(fractions))).astype(np.float32)
    whose: Any = np.repeat(np.arange(len(records)), np.diff(counts))
    _require_inside(rows, records, whose)
    repeating = _repeating(rows, whose)
    for number, (start, end) in enumerate(itertools.pairwise(counts)):
        each = rows[start:end]
        if number in repeating:
            each = each[_first_of_each(each, ())]
        yield each


def _drawn(record: ImageRecord, ids: Mapping[str, int]) -> tuple[Any, list[Any]]:
    """Class, centre and size of an image's outlines, float32 [n, 5], and the outlines, all in fractions of the image."""
    if not record.shapes:
        return np.zeros((0, 5), np.float32), []
    assert record.width is not None
    assert record.height is not None
    assert not record.boxes, "an image has boxes or outlines"
    size = record.width, record.height
    classes: Any = np.array([[ids[shape.label]] for shape in record.shapes], np.float32)
    segments = [np.array(yolo_shapes.row(shape, size).split(), np.float32).reshape(-1, 2) for shape in record.shapes]
    rows = np.concatenate((classes, utils.segments2boxes(segments)), 1).astype(np.float32)
    _require_inside(rows, [record], np.zeros(len(rows), int))
    kept = _first_of_each(rows, segments)
    if len(kept) == len(rows):
        return rows, segments
    return rows[kept], [segments[place] for place in kept]


def _first_of_each(rows: Any, segments: Sequence[Any]) -> Any:
    """The indices of rows without repeated ones, in the order in which ultralytics puts them if there are repeated rows."""
    _, places = np.unique(rows, axis=0, return_index=True)
    if len(places) < len(rows) and len(segments):
        whole = [row[0].tobytes() + segment.tobytes() for row, segment in zip(rows, segments, strict=True)]
        _, places = np.unique(np.array(whole, dtype=object), return_index=True)
    return places if len(places) < len(rows) else np.arange(len(rows))


def _repeating(rows: Any, whose: Any) -> set[int]:
    """A set of images that includes every image with a repeated row."""
    pairs = np.ascontiguousarray(rows[:, 1:] + np.float32(0)).view(np.uint64)  # adding 0 turns -0.0 into 0.0
    told = np.column_stack((pairs, rows[:, 0].astype(np.uint64), whose.astype(np.uint64)))
    keys = np.bitwise_xor.reduce((told * _MIXING) ^ ((told * _MIXING) >> np.uint64(29)), axis=1)
    order = np.argsort(keys)
    return set(whose[order[1:][np.diff(keys[order]) == 0]].tolist())


def _require_inside(rows: Any, records: Sequence[ImageRecord], whose: Any) -> None:
    """Raise RefusedError for rows that ultralytics would reject for lying outside of the image."""
    outside = (rows[:, 1:] > 1.01) | (rows[:, 1:] < (-0.01, -0.01, 0, 0))
    if outside.any():
        record = records[int(whose[np.flatnonzero(outside.any(axis=1))[0]])]
        raise RefusedError(
            Reason.DATASET_NOT_READABLE,
            f"{record.path} has an annotation beyond its edges, which ultralytics leaves out with its image; correct it, and"
            " prepare the dataset again",
            "dataset.uri",
        )
