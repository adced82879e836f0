"""COCO to YOLO by Pelagos and by others: creates the source, converts it, compares labels. Started by converting.py.

``convert_labels.py WHAT FOLDER [ARGUMENT]``, in the environment ``pipelines`` with the folder ``tests`` on PYTHONPATH;
datumaro in the environment ``oracles``. Conversions print their seconds as JSON, children included and imports excluded:

- ``draw FOLDER NUMBER``: creates that many empty images, with ten boxes each, in FOLDER/source
- ``pelagos``, ``ultralytics``, ``datumaro``: writes the labels of all images to a folder of that name
- ``compare FOLDER NAME``: counts the boxes of ``pelagos`` and of NAME, and those that differ by more than a millionth
"""

from __future__ import annotations

import hashlib
import importlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

BOXES = 10
CLASSES = 20
WIDTH, HEIGHT = 1280, 720


def draw(folder: Path, number: int) -> None:
    """Create empty images, which no program opens, also in FOLDER/blobs as a store has them."""
    images, annotations = folder / "source" / "images", folder / "source" / "annotations"
    images.mkdir(parents=True)
    annotations.mkdir()
    generator = random.Random(7)
    listed: list[dict[str, object]] = []
    marks: list[dict[str, object]] = []
    for index in range(number):
        name = f"dive-{index // 500:03}_frame-{index:06}.jpg"
        digest = _digest(f"images/{name}")
        blob = folder / "blobs" / digest[:2] / digest[2:]
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.touch()
        (images / name).hardlink_to(blob)
        listed.append({"id": index + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for _ in range(BOXES):
            width, height = (round(generator.uniform(8, 300), 2) for _ in range(2))
            x, y = round(generator.uniform(0, WIDTH - width), 2), round(generator.uniform(0, HEIGHT - height), 2)
            marks.append(
                {
                    "id": len(marks) + 1,
                    "image_id": index + 1,
                    "category_id": generator.randint(1, CLASSES),
                    "bbox": [x, y, width, height],
                    "area": round(width * height, 4),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index + 1, "name": f"species-{index:02}"} for index in range(CLASSES)]
    content = {"info": {"year": 2026}, "images": listed, "annotations": marks, "categories": categories}
    (annotations / "instances_train.json").write_text(json.dumps(content), encoding="ascii")


def pelagos(folder: Path) -> dict[str, float]:
    """Read as the preparation does, and write the view of a training, including links to the images in a store."""
    import child_memory
    from pelagos_contract.sources import VolumeSource
    from pelagos_contract.tasks import Task
    from pelagos_pipelines.annotations import coco, linking, reading, yolo
    from pelagos_pipelines.annotations.model import Asked
    from pelagos_pipelines.sandbox.ceilings import Ceilings
    from pelagos_pipelines.sources import volume

    importlib.import_module("numpy")  # otherwise imported within the measured time
    tree = volume.collect(VolumeSource(path="."), folder / "source")
    pool = reading.pool(Ceilings.read())

    def used() -> float:
        return time.process_time() + child_memory.seconds_of(pool)

    blobs = linking.Blobs(folder / "blobs", {path: _digest(path) for path in tree.images})
    pool.run("lines", {"where": "warm"}, b"")
    wall, cpu = time.monotonic(), used()
    found = coco.FORMAT.read(tree, lambda path: (WIDTH, HEIGHT), Asked(Task.DETECTION))
    (folder / "pelagos").mkdir()
    assert yolo.FORMAT.write is not None
    yolo.FORMAT.write(folder / "pelagos", found, blobs)
    return {"wall": time.monotonic() - wall, "cpu": used() - cpu}


def _digest(path: str) -> str:
    """A digest of the name, because all contents are equal."""
    return hashlib.sha256(path.encode()).hexdigest()


def ultralytics(folder: Path) -> dict[str, float]:
    """Run its own converter, which writes labels only and no view."""
    from ultralytics.data.converter import convert_coco

    return _measured(
        lambda: convert_coco(str(folder / "source/annotations"), str(folder / "ultralytics"), cls91to80=False)
    )


def datumaro(folder: Path) -> dict[str, float]:
    """Run its import and export, without images."""
    from datumaro.components.dataset import Dataset

    def convert() -> None:
        found = Dataset.import_from(str(folder / "source"), "coco_instances")
        found.export(str(folder / "datumaro"), "yolo", save_media=False)

    return _measured(convert)


def _measured(work: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.monotonic(), _used()
    work()
    return {"wall": time.monotonic() - wall, "cpu": _used() - cpu}


def _used() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def compare(folder: Path, name: str) -> dict[str, int]:
    """Compare box by box. Names of our label files begin with a number; datumaro numbers classes as we do."""
    ours = {file.stem.partition("_")[2]: _boxes(file) for file in (folder / "pelagos/labels").rglob("*.txt")}
    theirs = {file.stem: _boxes(file) for file in (folder / name).rglob("dive-*.txt")}
    differ = 0
    for stem, boxes in ours.items():
        others = theirs.get(stem, [])
        differ += abs(len(boxes) - len(others))
        for one, other in zip(boxes, others, strict=False):
            differ += any(abs(a - b) > 1e-6 for a, b in zip(one, other, strict=True))
    return {"boxes": sum(map(len, ours.values())), "theirs": sum(map(len, theirs.values())), "differ": differ}


def _boxes(file: Path) -> list[list[float]]:
    return sorted([float(one) for one in line.split()] for line in file.read_text(encoding="ascii").splitlines())


def main() -> None:
    """Run the command from the arguments."""
    what, folder, *given = sys.argv[1:]
    works: dict[str, Callable[[], object]] = {
        "draw": lambda: draw(Path(folder), int(given[0])),
        "pelagos": lambda: pelagos(Path(folder)),
        "ultralytics": lambda: ultralytics(Path(folder)),
        "datumaro": lambda: datumaro(Path(folder)),
        "compare": lambda: compare(Path(folder), given[0]),
    }
    print(json.dumps(works[what]()))


if __name__ == "__main__":
    main()
