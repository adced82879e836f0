"""Frames in which organisms lie at any angle, with the owner of every pixel: one collection for oriented boxes and for masks.

COCO's panoptic layout: a picture of the organisms of each frame, and of the water, which is not an object. What the other tasks
need follows from it: instances without the water, classes of pixels, and the smallest rectangle around each organism.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pelagos_contract.splits import SPLITS, Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import coco_panoptic, masks
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.samples import frames
from pelagos_pipelines.samples.organisms import Organism
from pelagos_pipelines.samples.wheel import EXPECTED

FRAMES: Mapping[Split, int] = {"train": 240, "validation": 48, "test": 48}
WATER = "water"
"""The class of pixels that no organism covers."""
SEED = 21
QUALITY = 92
"""Quality of the JPEG images."""


def write(folder: Path, divided: Mapping[Split, Sequence[Organism]], sizes: Mapping[Split, int] = FRAMES) -> int:
    """Compose and write ``sizes`` frames of each split. Returns the number of organisms that they show."""
    folder.mkdir(parents=True)
    records: list[ImageRecord] = []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".blobs-") as scratch:
        blobs: dict[str, Path] = {}
        for number, split in enumerate(SPLITS):
            generator = np.random.default_rng([SEED, number])
            for frame in frames.compose(divided[split], sizes[split], generator, turned=True):
                name = f"scene-{len(records) + 1:04d}.jpg"
                content = cv2.imencode(".jpg", frame.pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
                blobs[name] = Path(scratch, name)
                blobs[name].write_bytes(content.tobytes())
                size, group = (frames.SIDE, frames.SIDE), f"organisms-{split}"
                records.append(ImageRecord(name, *size, split=split, group=group, shapes=shapes_of(frame)))
        # These pictures have one owner for each pixel: where two organisms overlap, the smaller one is on top.
        coco_panoptic.write(folder, Collection(Task.PANOPTIC_SEGMENTATION, (*EXPECTED, WATER), tuple(records)), blobs)
    return sum(len(record.shapes) - 1 for record in records)


def shapes_of(frame: frames.Frame) -> tuple[Shape, ...]:
    """The pixels of each organism of a frame, and of the water."""
    free: Any = np.ones((frames.SIDE, frames.SIDE), bool)
    found = []
    for placed in frame.placed:
        left, top, width, height = placed.box
        found.append(masks.of_array(placed.label, placed.mask, (left, top), attributes={coco_panoptic.THING: "true"}))
        free[top : top + height, left : left + width] &= placed.mask == 0
    return (*found, masks.of_array(WATER, free, attributes={coco_panoptic.THING: "false"}))
