"""Writes two versions with the given number of images, which differ in a few of a hundred. Started by versioning.py.

Run with the interpreter of the environment ``pipelines``: write_versions.py IMAGES FOLDER. Nothing decodes the image
files, so they are a few bytes long; each has its own digest. Prints the folders of the versions, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Collection, Exclusion, ImageRecord
from pelagos_pipelines.preparation import blobs, locks, versions
from pelagos_pipelines.preparation.integrity import Inspection

CLASSES, BOXES, PIXELS, SEED = 50, 3, 320, 14
LEFT_OUT = 10
"""One file is excluded for this number of images."""


def records(number: int) -> list[ImageRecord]:
    """The image records of one version."""
    random = np.random.default_rng(SEED)
    labels = random.integers(0, CLASSES, (number, BOXES)).tolist()
    sides = random.uniform((0, 0, 10, 10), (200, 200, 100, 100), (number, BOXES, 4)).round(2).tolist()
    splits = random.choice(3, number, p=(0.7, 0.15, 0.15)).tolist()
    return [
        ImageRecord(
            f"haul {index % 400}/{index:06}.png", PIXELS, PIXELS, f"haul {index % 400}", SPLITS[splits[index]], None,
            tuple(Box(f"class {one:02}", *side) for one, side in zip(labels[index], sides[index], strict=True)),
        )
        for index in range(number)
    ]  # fmt: skip


def changed(images: list[ImageRecord]) -> list[ImageRecord]:
    """Change four of a hundred images: one is removed, one has a different split, one a different box, one a different name."""
    kept = [image for index, image in enumerate(images) if index % 100 != 0]
    return [
        replace(image, split=SPLITS[0]) if index % 100 == 1
        else replace(image, boxes=image.boxes[1:]) if index % 100 == 2
        else replace(image, path=f"renamed {image.path}") if index % 100 == 3
        else image
        for index, image in enumerate(kept)
    ]  # fmt: skip


def write(store: Path, images: list[ImageRecord]) -> Path:
    """Write one version; returns its folder."""
    inspections = {image.path: _file(store, image.path.removeprefix("renamed ")) for image in images}
    names = tuple(f"class {one:02}" for one in range(CLASSES))
    others = [f"notes/{index}.txt" for index in range(len(images) // LEFT_OUT)]
    excluded = tuple(Exclusion.of(others, ExclusionReason.CORRUPT))
    collection = Collection(Task.DETECTION, names, tuple(images), excluded=excluded)
    with locks.locked(store):
        no_source = cast("Any", None)  # never used, because every blob exists
        return versions.write(store, no_source, collection, inspections, {"task": "Detection"}).folder


def _file(store: Path, content: str) -> Inspection:
    digest = hashlib.sha256(content.encode()).hexdigest()
    target = blobs.path(store / "blobs", digest)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    return Inspection(digest, len(content.encode()), PIXELS, PIXELS)


def main() -> None:
    """Write both versions, and print their folders."""
    images, store = records(int(sys.argv[1])), Path(sys.argv[2])
    print(json.dumps([str(write(store, each)) for each in (images, changed(images))]))


if __name__ == "__main__":
    main()
