"""Creates large sources, and runs the measured operations on them. Started by large.py, in the environment ``pipelines``.

``large_sources.py WHAT ARGUMENT...`` prints the seconds of measured operations as JSON, without the start of Python:

- ``draw NUMBER FOLDER [SIDE]``: writes that many different PNG files of 16 x 16 (or SIDE x SIDE) pixels in folders by class, and
  FOLDER.tar with the same
- ``objects NUMBER FOLDER SIDE``: writes such files in one folder, with a YOLO box each
- ``coco BYTES FOLDER``: writes some images, and an annotations.json of that size with outlines
- ``prepare PATH DATA STORE REPORT [FORMAT TASK]``: runs the step
- ``view VERSION TARGET``: creates a folder with links and label files
- ``copy VERSION TARGET``, ``bare VERSION TARGET``: creates plain copies of its images, or plain links to them, with known names
- ``links VERSION TARGET``: as ``view``, but all images are read before the clock starts
- ``training VERSION``: prepares a version, already read and verified, for a training of ultralytics' networks
- ``read FOLDER``: reads the annotations of ``coco``
- ``nothing``: only imports
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pelagos_contract.sources import VolumeSource
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import coco
from pelagos_pipelines.annotations.model import Asked
from pelagos_pipelines.preparation import pictures, versions
from pelagos_pipelines.sources import volume
from pelagos_pipelines.steps.prepare import prepare

SIDE = 16
CLASSES = 100
_IMAGES = 1_000


def draw(number: int, folder: Path, side: int = SIDE) -> None:
    """Draw noise seeded by number, so that no two images look alike."""
    for name in range(CLASSES):
        (folder / f"class-{name:03}").mkdir(parents=True)
    for index in range(number):
        _draw_one(folder / f"class-{index % CLASSES:03}" / f"{index:06}.png", index, side)
    with tarfile.open(folder.with_suffix(".tar"), "w") as archive:
        archive.add(folder, folder.name)


def _draw_one(file: Path, index: int, side: int) -> None:
    file.write_bytes(pictures.png(np.random.default_rng(index).bytes(side * side), side, side, 1, 8))


def draw_objects(number: int, folder: Path, side: int) -> None:
    """Draw the same images, with a box each."""
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    for index in range(number):
        _draw_one(images / f"{index:06}.png", index, side)
        (labels / f"{index:06}.txt").write_text(f"{index % 2} 0.5 0.5 0.{index % 4 + 1} 0.25\n", encoding="ascii")
    (folder / "data.yaml").write_text("train: images\nnames: [cod, eel]\n", encoding="ascii")


def training(version: str) -> Callable[[], object]:
    """Read the version as the step train does; returns a function that prepares it for ultralytics' dataset."""
    from pelagos_pipelines.evaluation import ground_truth
    from pelagos_pipelines.training import yolov8, yolov8_view

    assert yolov8.FAMILY
    found = versions.read(version)
    versions.verify(found)
    truth = ground_truth.of_version(found)

    def view() -> None:
        data = yolov8_view.data(truth)
        for place in (yolov8_view.TRAIN, yolov8_view.VALIDATION):
            samples = yolov8_view.samples_of(data, place)
            files = [str(sample.file) for sample in samples]
            labels = yolov8_view.labels(samples, {name: number for number, name in data["names"].items()})
            assert len(files) == len(labels)

    return view


def write_coco(size: int, folder: Path) -> None:
    """Write outlines with 20 corners until the file has the given size."""
    folder.mkdir(parents=True)
    images = [{"id": number, "file_name": f"{number}.png", "width": 640, "height": 480} for number in range(_IMAGES)]
    for image in images:
        (folder / str(image["file_name"])).write_bytes(b"\x89PNG\r\n\x1a\n")
    written, number = 0, 0
    corners = np.random.default_rng(1).uniform(10, 400, (1_000, 40)).round(2).tolist()
    with (folder / "annotations.json").open("w", encoding="ascii") as file:
        file.write(json.dumps({"images": images, "categories": [{"id": 1, "name": "cod"}]})[:-1] + ', "annotations": [')
        while written < size:
            outline = corners[number % len(corners)]
            x, y = min(outline[::2]), min(outline[1::2])
            box = [x, y, round(max(outline[::2]) - x, 2), round(max(outline[1::2]) - y, 2)]
            mark = {
                "id": number,
                "image_id": number % _IMAGES,
                "category_id": 1,
                "bbox": box,
                "segmentation": [outline],
            }
            written += file.write(("," if number else "") + json.dumps(mark))
            number += 1
        file.write("]}")


def copy(files: list[str], target: Path) -> None:
    """Copy the files, as tools without hard links do."""
    target.mkdir(parents=True)
    for number, file in enumerate(files):
        shutil.copy2(file, target / f"{number}.png")


def bare(files: list[str], target: Path) -> None:
    """Create only the links of a view."""
    target.mkdir(parents=True)
    for number, file in enumerate(files):
        os.link(file, f"{target}/{number}.png")


def read(folder: Path) -> None:
    """Read the annotations for boxes, as the step does."""
    tree = volume.collect(VolumeSource(path="."), folder)
    found = coco.FORMAT.read(tree, lambda path: (640, 480), Asked(Task.DETECTION))
    assert len(found.images) == _IMAGES


def _prepare(
    path: str, data: str, store: str, report: str, written: str = "ImageFolder", task: str = "Classification"
) -> None:
    request = {"source": {"volume": {"path": path}}, "format": written, "task": task}
    prepare(json.dumps(request), data, store, report)


def main() -> None:
    """Run the command from the arguments."""
    what, *given = sys.argv[1:]
    works: dict[str, Callable[..., object]] = {
        "draw": lambda number, folder, side=SIDE: draw(int(number), Path(folder), int(side)),
        "objects": lambda number, folder, side: draw_objects(int(number), Path(folder), int(side)),
        "coco": lambda size, folder: write_coco(int(size), Path(folder)),
        "prepare": _prepare,
        "view": lambda version, target: versions.materialise(version, "yolo", Path(target)),
        "links": lambda version, target: versions.materialise(version, "yolo", Path(target)),
        "copy": lambda version, target: copy(files, Path(target)),
        "bare": lambda version, target: bare(files, Path(target)),
        "read": lambda folder: read(Path(folder)),
        "nothing": lambda: None,
    }
    files = [*map(str, versions.read(given[0]).blobs.values())] if what in {"copy", "bare"} else []
    if what == "links":
        versions.verify(versions.read(given[0]))
    if what == "training":
        works[what], given = training(given[0]), []
    began, cpu = time.monotonic(), time.process_time()
    works[what](*given)
    print(json.dumps({"wall": time.monotonic() - began, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
