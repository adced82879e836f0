"""Images that are made smaller at preparation, with their annotations; a server does it with the same code."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from image_sources import coco, document, photo
from other_images import DEEP, saved, tiff
from pelagos_contract import sealing
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.preparation import resizing, versions
from pelagos_pipelines.preparation.cleaning import Cleaned
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.serving import images, reducing
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.steps.prepare import prepare

LONGEST = {"resize": {"longest": 100}}


def run(folder: Path, **more: Any) -> tuple[versions.Version, PreparationResult]:
    request = {
        "source": {"volume": {"path": "."}},
        "format": "Coco",
        "task": "Detection",
        "preprocessing": LONGEST,
        "split": {"ratios": {"train": 100, "validation": 0, "test": 0}},
    }
    prepare(json.dumps(request | more), str(folder / "data"), str(folder / "store"), str(folder / "report"))
    told = PreparationResult.model_validate(sealing.opened(sealing.document(folder / "report" / "result.json")))
    return versions.read(told.uri), told


def noise(height: int, width: int) -> Any:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


def exactly(image: Any, wide: int, high: int) -> Any:
    """Means over areas, in exact fractions."""
    height, width = image.shape[:2]
    weights = []
    for length, count in ((height, high), (width, wide)):
        rows = []
        for place in range(count):
            start, end = Fraction(place * length, count), Fraction((place + 1) * length, count)
            each = [(Fraction(at), Fraction(at + 1)) for at in range(length)]
            rows.append([max(Fraction(0), min(end, last) - max(start, first)) for first, last in each])
        weights.append(np.array(rows, dtype=object))
    totals = np.einsum("ih,hwc,jw->ijc", weights[0], image.astype(int).astype(object), weights[1])
    area = Fraction(height * width, high * wide)
    return np.array([int(value / area + Fraction(1, 2)) for value in totals.ravel()], np.uint8).reshape(totals.shape)


@pytest.mark.parametrize(("height", "width", "longest"), [(9, 14, 5), (14, 9, 13), (12, 8, 6), (7, 1, 3), (1, 7, 2)])
def test_each_pixel_is_the_mean_of_its_area(height: int, width: int, longest: int) -> None:
    image = noise(height, width)

    found = reducing.reduced(image, longest)

    wide, high = reducing.size(width, height, longest)
    assert max(wide, high) == longest
    assert (found == exactly(image, wide, high)).all()


def test_no_image_becomes_larger() -> None:
    image = noise(9, 14)
    assert reducing.reduced(image, 14) is image
    assert reducing.reduced(image, None) is image
    assert reducing.size(4000, 3, 1000) == (1000, 1)


def test_a_version_holds_the_smaller_image_and_says_of_which_it_is(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "large.jpg", 250, 150)
    photo(tmp_path / "data" / "small.png", 60, 40)
    document(
        tmp_path / "data" / "boxes.json",
        coco({"large.jpg": [[10, 20, 30, 40]]}, size=(250, 150)),
    )
    document(tmp_path / "data" / "more.json", coco({"small.png": [[10, 10, 20, 20]]}, size=(60, 40)))

    version, _ = run(tmp_path)

    large, small = version.collection.images
    stored = images.decode_known((tmp_path / "data" / "large.jpg").read_bytes())
    assert (large.width, large.height) == (100, 60)
    assert [(box.x, box.y, box.width, box.height) for box in large.boxes] == [pytest.approx((4, 8, 12, 16))]
    assert (cv2.imread(str(version.blobs["large.jpg"])) == reducing.reduced(stored, 100)).all()
    assert (small.width, small.height) == (60, 40)
    assert version.blobs["small.png"].read_bytes() == (tmp_path / "data" / "small.png").read_bytes()
    entries = json.loads((version.folder / "manifest.json").read_text())["images"]
    assert (entries[0]["original"]["width"], entries[0]["original"]["height"]) == (250, 150)
    assert "original" not in entries[1]
    again, _ = run(tmp_path)
    assert again.digest == version.digest


def test_a_blob_that_went_from_the_store_is_made_again(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "large.jpg", 250, 150)
    document(tmp_path / "data" / "boxes.json", coco({"large.jpg": [[10, 20, 30, 40]]}, size=(250, 150)))
    version, _ = run(tmp_path)
    before = version.blobs["large.jpg"].read_bytes()
    version.blobs["large.jpg"].unlink()
    (tmp_path / "report" / "result.json").unlink()

    again, _ = run(tmp_path)

    assert again.digest == version.digest
    assert again.blobs["large.jpg"].read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"), [("a.tif", tiff(DEEP)), ("a.webp", saved(DEEP // 16, "WEBP", mode="RGB"))]
)
def test_images_in_other_encodings_are_made_smaller_too(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(content)
    document(tmp_path / "data" / "boxes.json", coco({name: [[6, 11, 12, 11]]}, size=(60, 44)))

    version, _ = run(tmp_path, preprocessing={"resize": {"longest": 64}})
    assert version.collection.images[0].width == 60
    version, _ = run(tmp_path, preprocessing={"resize": {"longest": 64}, "color": "GrayWorld"})
    assert version.collection.images[0].width == 60


def test_statistics_are_those_of_the_smaller_images(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "large.png", 250, 150)
    document(tmp_path / "data" / "boxes.json", coco({"large.png": [[10, 20, 30, 40]]}, size=(250, 150)))

    version, _ = run(tmp_path, preprocessing=LONGEST | {"normalization": "DatasetStatistics"})

    pixels = cv2.imread(str(version.blobs["large.png"]))[..., ::-1] / 255
    assert version.statistics is not None
    assert version.statistics.mean == pytest.approx(pixels.mean((0, 1)), abs=1e-6)


def scaled(shape: Shape) -> Shape | None:
    image = ImageRecord("a.png", 200, 100, shapes=(shape,))
    found = Cleaned(Collection(Task.INSTANCE_SEGMENTATION, ("cod",), (image,)), {}, 1, 0, 0, 0, 0)
    inspections = {"a.png": Inspection("0" * 64, 1, 200, 100, reduced=(100, 50))}
    left = resizing.scaled(found, inspections).collection.images[0].shapes
    return left[0] if left else None


def test_shapes_are_made_smaller_with_their_image() -> None:
    assert scaled(shapes.polygon("cod", (0, 0, 20, 0, 20, 10))) == shapes.polygon("cod", (0, 0, 10, 0, 10, 5))
    assert scaled(shapes.rectangle("cod", 10, 20, 30, 40, 45)) == shapes.rectangle("cod", 5, 10, 15, 20, 45)
    pixels: Any = np.zeros((100, 200), bool)
    pixels[10:30, 40:80] = True
    mask = scaled(masks.of_array("cod", pixels))
    assert mask is not None
    assert (masks.on_image(mask, 100, 50) == pixels[1::2, 1::2]).all()
    pixels[:] = False
    pixels[10, 10] = True
    assert scaled(masks.of_array("cod", pixels)) is None


def test_a_server_sees_the_pixels_that_a_version_holds() -> None:
    content = bytes(cv2.imencode(".png", noise(150, 250))[1])
    decoder = Decoder("Detection", 64, 32, longest=100)
    plain = Decoder("Detection", 64, 32)
    try:
        found = decoder.decode(content)
        small = bytes(cv2.imencode(".png", reducing.reduced(noise(150, 250), 100))[1])
        assert (found.canvas == plain.decode(small).canvas).all()
        assert (found.width, found.height, found.shown) == (250, 150, (100, 60))
    finally:
        decoder.close()
        plain.close()
