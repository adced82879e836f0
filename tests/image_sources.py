"""Sources as users have them: real encoded images and label files in a folder, read by the code that reads users' folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from pelagos_contract.dataset import ClassFolder
from pelagos_contract.labels import Labels
from pelagos_contract.sources import VolumeSource
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Asked, Collection, SourceFiles
from pelagos_pipelines.preparation import labelling
from pelagos_pipelines.sources import volume


def photo(path: Path, width: int = 40, height: int = 30, *, seed: int = 0, orientation: int | None = None) -> Path:
    """Write an encoded image of noise; ``orientation`` is the EXIF tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, width, height]).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def text(path: Path, content: str) -> Path:
    """Write a text file, and create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def document(path: Path, content: object) -> Path:
    """Write a JSON file."""
    return text(path, json.dumps(content))


def coco(
    boxes: Mapping[str, list[list[float]]], *, size: tuple[int, int] = (40, 30), **more: object
) -> dict[str, object]:
    """A COCO file with one category ``cod`` of id 7; ``boxes`` by file name."""
    images = [{"id": 10 + i, "file_name": name, "width": size[0], "height": size[1]} for i, name in enumerate(boxes)]
    marks = [(10 + i, box) for i, listed in enumerate(boxes.values()) for box in listed]
    annotations = [{"id": i, "image_id": image, "category_id": 7, "bbox": box} for i, (image, box) in enumerate(marks)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "cod"}], **more}


def tree_of(root: Path) -> SourceFiles:
    """The files of the source below ``root``."""
    return volume.collect(VolumeSource(path="."), root)


def read(root: Path, task: Task = Task.DETECTION, name: str = "Auto") -> Collection:
    """Read a source as the preparation does, with sizes from its real images."""
    tree = tree_of(root)
    found = registry.choose(name, tree, task).read(tree, lambda path: upright_size(root / path), Asked(task))
    return labelling.applied(found, Labels())


def folders_of(root: Path, *folders: str) -> None:
    """Write one image to each folder."""
    for number, folder in enumerate(folders):
        photo(root / folder / "a.png", seed=number)


def read_folders(
    root: Path, class_folder: ClassFolder | None, name: str = "Auto", level: int | str | None = None
) -> Collection:
    """Read classes by folder, with the checks that follow once labels are known."""
    tree = tree_of(root)
    asked = Asked(Task.CLASSIFICATION, class_folder, level)
    found = registry.read(registry.choose(name, tree, Task.CLASSIFICATION), tree, lambda _: (1, 1), asked)
    return labelling.applied(found, Labels())


def upright_size(path: Path) -> tuple[int, int] | None:
    """The size that training, evaluation and serving see when they decode the image."""
    from pelagos_pipelines.serving import decoding, images

    try:
        height, width = images.decode_known(path.read_bytes()).shape[:2]
    except decoding.ImageRefusedError:
        return None
    return width, height
