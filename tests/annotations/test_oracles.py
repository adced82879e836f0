"""Other libraries read what we write, and we read what they write: boxes to a millionth, masks to the pixel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as runs

from image_sources import photo, read
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import coco, masks, pascal_voc, shapes, yolo
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape

_ROOT = Path(__file__).parents[2]
_PYTHON = Path(os.environ.get("PELAGOS_ENVIRONMENTS", _ROOT / ".venvs")) / "oracles/bin/python"
CLASSES = ("cod", "Ærfugl 3", "鰊")
WIDTH, HEIGHT = 640, 480
FORMATS = {"coco": coco.FORMAT, "yolo": yolo.FORMAT, "voc": pascal_voc.FORMAT}
PAIRS = [
    *((library, view) for library in ("supervision", "labelformat", "datumaro") for view in ("coco", "yolo")),
    ("labelformat", "voc"),
    ("datumaro", "voc"),
]


@dataclass(frozen=True)
class World:
    """Collections, what the libraries read from their views, and the folder with what the libraries wrote."""

    boxes: Collection
    outlines: Collection
    found: dict[str, dict[str, dict[str, list[list[Any]]]]]
    theirs: Path


def boxes(random: Any, image: int) -> tuple[Box, ...]:
    """No boxes in one image; in the others boxes of all sizes, one along the edges."""
    if image == 2:
        return ()
    sides = random.uniform((0, 0, 1, 1), (400, 300, 230, 170), (4, 4)).round(2)
    whole = Box(CLASSES[0], 0.0, 0.0, float(WIDTH), float(HEIGHT))
    return (*(Box(CLASSES[n % 3], *map(float, one)) for n, one in enumerate(sides)), whole)


def outlines(random: Any, image: int) -> tuple[Shape, ...]:
    """A polygon with several corners, and a mask with a hole."""
    angles = np.sort(random.uniform(0, 2 * np.pi, 9))
    corners = np.stack([200 + 150 * np.cos(angles), 200 + 120 * np.sin(angles)], 1).round(2)
    inside: Any = np.zeros((90, 70), bool)
    inside[5:80, 8:60] = True
    inside[20:40, 20:30] = False
    spot = masks.of_array(CLASSES[2], inside, (30 + image, 40))
    return (shapes.polygon(CLASSES[1], tuple(map(float, corners.ravel()))), spot)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    if not _PYTHON.exists():
        pytest.skip("the environment oracles is not installed")
    folder = tmp_path_factory.mktemp("oracles")
    random = np.random.default_rng(11)
    paths = [f"dive/{number}.png" for number in range(6)]
    blobs = {path: photo(folder / "blobs" / path, WIDTH, HEIGHT, seed=seed) for seed, path in enumerate(paths)}
    records = [ImageRecord(path, WIDTH, HEIGHT, split=SPLITS[n % 3]) for n, path in enumerate(paths)]
    boxed = Collection(
        Task.DETECTION, CLASSES, tuple(replace(one, boxes=boxes(random, n)) for n, one in enumerate(records))
    )
    outlined = Collection(
        Task.INSTANCE_SEGMENTATION,
        CLASSES,
        tuple(replace(one, shapes=outlines(random, n)) for n, one in enumerate(records)),
    )
    for view, (kind, collection) in {
        **{name: (kind, boxed) for name, kind in FORMATS.items()},
        "masks": (coco.FORMAT, outlined),
    }.items():
        assert kind.write is not None
        (folder / "ours" / view).mkdir(parents=True)
        kind.write(folder / "ours" / view, collection, blobs)
    theirs = folder / "theirs"
    theirs.mkdir()
    done = subprocess.run(
        [_PYTHON, _ROOT / "tests/oracles_program.py", folder / "ours", theirs],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for split in SPLITS:  # it writes only the labels
        for written in ("labelformat-coco", f"labelformat-yolo-{split}/images"):
            shutil.copytree(folder / "ours/coco/images" / split, theirs / written, dirs_exist_ok=True)
    return World(boxed, outlined, json.loads(done.stdout.splitlines()[-1]), theirs)


def require_same(rows: Sequence[Sequence[Any]], boxes: Sequence[Box], most: float) -> None:
    """The same classes, and sides that differ by at most ``most`` of the image's side."""
    wanted = [(box.label, box.x, box.y, box.width, box.height) for box in boxes]
    one, other = (sorted(listed, key=lambda row: (row[0], round(row[1]), round(row[2]))) for listed in (rows, wanted))
    assert [row[0] for row in one] == [row[0] for row in other]
    sides = [np.array([row[1:] for row in listed], float).reshape(-1, 4) for listed in (one, other)]
    assert np.abs((sides[0] - sides[1]) / (WIDTH, HEIGHT, WIDTH, HEIGHT)).max(initial=0) <= most


@pytest.mark.parametrize(("library", "view"), PAIRS)
def test_boxes_that_we_write_are_read_as_they_are(world: World, library: str, view: str) -> None:
    found = world.found[library][view]
    assert sorted(map(int, found)) == list(range(len(world.boxes.images)))
    for number, image in enumerate(world.boxes.images):
        require_same(found[str(number)], image.boxes, 1e-6)


@pytest.mark.parametrize(
    ("written", "numbers", "most"),
    [
        ("supervision-coco", range(6), 1e-6),
        ("supervision-yolo", range(6), 1e-5),  # it writes five digits
        ("labelformat-coco", range(6), 1e-6),
        *((f"labelformat-yolo-{split}", range(n, 6, 3), 1e-6) for n, split in enumerate(SPLITS)),
        ("datumaro-coco", range(6), 1e-6),
        ("datumaro-yolo", range(6), 1.5e-6),  # this one writes six
        ("datumaro-voc", (0, 1, 3, 4, 5), 1e-6),  # has no file for an image without boxes
    ],
)
def test_boxes_that_others_write_are_read_as_they_are(
    world: World, written: str, numbers: Sequence[int], most: float
) -> None:
    found = read(world.theirs / written)
    images = {int(PurePosixPath(image.path).name.partition("_")[0]): image for image in found.images}
    assert sorted(images) == list(numbers)
    for number, image in images.items():
        rows = [(box.label, box.x, box.y, box.width, box.height) for box in image.boxes]
        require_same(rows, world.boxes.images[number].boxes, most)
        assert image.split in {world.boxes.images[number].split, None}


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("library", ["supervision", "datumaro"])
def test_outlines_and_masks_that_we_write_are_read_to_the_pixel(world: World, library: str) -> None:
    for number, image in enumerate(world.outlines.images):
        rows = world.found[library]["masks"][str(number)]
        found = {name: runs.decode({"counts": counts, "size": size}) for name, counts, *size in rows}
        assert len(found) == len(image.shapes)
        for shape in image.shapes:
            if shape.kind is Kind.MASK:
                wanted = masks.on_image(shape, WIDTH, HEIGHT)
            elif library == "supervision":  # it rounds polygons to whole pixels
                corners = np.rint(shape.coordinates).reshape(-1, 2).astype(np.int32)
                wanted = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [corners], 1)
            else:
                wanted = runs.decode(runs.frPyObjects([list(shape.coordinates)], HEIGHT, WIDTH))[..., 0]
            one, other = np.asarray(wanted, bool), found[shape.label].astype(bool)
            assert (one & other).sum() >= 0.999 * (one | other).sum() > 0
