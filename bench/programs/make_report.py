"""Writes the report of a synthetic version with three boxes per image, and measures the time. Started by judging.py.

Run with the interpreter of the environment ``pipelines``: make_report.py IMAGES PIXELS FOLDER. The images share 100 files of
PIXELS x PIXELS pixels, so that 100,000 of them fit on a disk; the amount to decode is the same. Prints JSON; processor time
includes children.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np

import pelagos_pipelines
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.preparation.judging import making
from pelagos_pipelines.preparation.versions import Version
from pelagos_pipelines.sandbox.ceilings import Ceilings

sys.path.insert(0, str(Path(pelagos_pipelines.__file__).parents[2] / "tests"))

import child_memory

FILES, CLASSES, GROUPS, BOXES = 100, 50, 400, 3
SEED = 14


def version(number: int, pixels: int, folder: Path) -> Version:
    """A version with exponentially decreasing class sizes, in groups."""
    random = np.random.default_rng(SEED)
    names = tuple(f"class {number:02}" for number in range(CLASSES))
    labels = np.minimum(random.exponential(8, (number, BOXES)).astype(int), CLASSES - 1)
    sides = random.uniform((0, 0, 0.02, 0.02), (0.8, 0.8, 0.2, 0.2), (number, BOXES, 4)) * pixels
    splits = random.choice(3, number, p=(0.7, 0.15, 0.15))
    files = _files(pixels, folder / "blobs")
    images = []
    for index in range(number):
        boxes = tuple(Box(names[one], *map(float, side)) for one, side in zip(labels[index], sides[index], strict=True))
        place = f"{index:06}.jpg", pixels, pixels, f"haul {index % GROUPS}", SPLITS[splits[index]]
        images.append(ImageRecord(*place, None, boxes))
    blobs = {image.path: files[index % FILES] for index, image in enumerate(images)}
    return Version("0" * 64, folder / "version", Collection(Task.DETECTION, names, tuple(images)), blobs)


def _files(pixels: int, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.jpg" for number in range(FILES)]
    for number, file in enumerate(files):
        if not file.exists():
            coarse = np.random.default_rng([SEED, number]).integers(0, 256, (40, 40, 3), np.uint8)
            cv2.imwrite(str(file), cv2.resize(coarse, (pixels, pixels), interpolation=cv2.INTER_LINEAR))
    return files


def main() -> None:
    """Measure, and print the result as JSON."""
    number, pixels, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    made = version(number, pixels, folder)
    inspector = integrity.inspector_for(Ceilings.read())
    inspector.version()
    wall, cpu = time.monotonic(), time.process_time() + child_memory.seconds_of(inspector.pool)
    report = making.make(made, {}, [])
    found = {
        "wall": time.monotonic() - wall,
        "cpu": time.process_time() + child_memory.seconds_of(inspector.pool) - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "page": report.page.stat().st_size,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
