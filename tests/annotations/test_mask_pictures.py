"""Label masks: pixels with a class's colour or number, and pictures that separate objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from image_sources import photo, read, text, tree_of
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, registry
from pelagos_pipelines.annotations.coco_panoptic import THING
from pelagos_pipelines.annotations.shapes import Kind

WIDTH, HEIGHT = 40, 30
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncod:128,0,0::\neel:0,128,0::\n"
RED, GREEN, BLUE = (128, 0, 0), (0, 128, 0), (0, 0, 128)
Boxes = Mapping[tuple[int, int, int, int], Any]
"""Pixel values within boxes of left, top, right and bottom."""


def coloured(path: Path, boxes: Boxes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """An RGB picture with these boxes."""
    pixels: Any = np.zeros((size[1], size[0], 3), np.uint8)
    for (left, top, right, bottom), value in boxes.items():
        pixels[top:bottom, left:right] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def numbered(path: Path, boxes: Boxes, *, palette: bool) -> Path:
    pixels: Any = np.zeros((HEIGHT, WIDTH), np.uint8)
    for (left, top, right, bottom), value in boxes.items():
        pixels[top:bottom, left:right] = value
    picture = Image.fromarray(pixels, "L")
    if palette:
        picture = Image.fromarray(pixels, "P")
        picture.putpalette([channel for number in range(256) for channel in (number * 37 % 256, number, 0)])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def cvat(root: Path, *, objects: bool = True) -> Path:
    """An export of CVAT with two cod and an eel."""
    photo(root / "JPEGImages" / "a.jpg", WIDTH, HEIGHT)
    text(root / "labelmap.txt", LABELMAP)
    boxes = {(2, 3, 10, 9): RED, (10, 3, 15, 9): RED, (20, 20, 30, 28): GREEN}
    coloured(root / "SegmentationClass" / "a.png", boxes)
    if objects:
        coloured(root / "SegmentationObject" / "a.png", dict(zip(boxes, (RED, GREEN, BLUE), strict=True)))
    return root


def test_objects_are_told_apart_and_have_the_class_of_their_pixels(tmp_path: Path) -> None:
    found = read(cvat(tmp_path), Task.INSTANCE_SEGMENTATION)

    (image,) = found.images
    assert (image.path, image.width, image.height) == ("JPEGImages/a.jpg", WIDTH, HEIGHT)
    assert sorted((shape.label, shape.kind, shape.sides) for shape in image.shapes) == [
        ("cod", Kind.MASK, (2, 3, 8, 6)),
        ("cod", Kind.MASK, (10, 3, 5, 6)),
        ("eel", Kind.MASK, (20, 20, 10, 8)),
    ]
    assert found.annotation_files == ("labelmap.txt", "SegmentationClass/a.png", "SegmentationObject/a.png")
    assert found.excluded == ()


def test_detection_takes_the_box_around_each_object(tmp_path: Path) -> None:
    (image,) = read(cvat(tmp_path)).images

    assert sorted((box.label, box.x, box.y, box.width, box.height) for box in image.boxes) == [
        ("cod", 2, 3, 8, 6),
        ("cod", 10, 3, 5, 6),
        ("eel", 20, 20, 10, 8),
    ]


def test_classes_alone_are_one_mask_each_and_no_objects(tmp_path: Path) -> None:
    cvat(tmp_path, objects=False)

    with pytest.raises(RefusedError, match=r"SegmentationClass/a\.png; add those of SegmentationObject/") as refused:
        read(tmp_path)
    assert refused.value.failure.reason is Reason.TASK_MISMATCH
    (image,) = read(tmp_path, Task.SEMANTIC_SEGMENTATION).images
    assert {shape.label: masks.on_image(shape, WIDTH, HEIGHT).sum() for shape in image.shapes} == {"cod": 78, "eel": 80}
    assert {shape.attributes[THING] for shape in image.shapes} == {"false"}


@pytest.mark.parametrize("palette", [True, False], ids=["palette", "grey"])
@pytest.mark.parametrize("name", ["masks/train/a.png", "images/train/a_mask.png"])
def test_pixels_may_have_the_number_of_a_line_of_classes(tmp_path: Path, palette: bool, name: str) -> None:
    photo(tmp_path / "images/train/a.png", WIDTH, HEIGHT)
    text(tmp_path / "classes.txt", "background\ncod\n\neel\n")
    numbered(tmp_path / name, {(2, 3, 10, 9): 1, (20, 20, 30, 28): 3, (30, 0, 40, 2): 255}, palette=palette)

    found = read(tmp_path, Task.SEMANTIC_SEGMENTATION)

    (image,) = found.images
    assert (image.path, image.split) == ("images/train/a.png", "train")
    assert {shape.label: shape.sides for shape in image.shapes} == {"cod": (2, 3, 8, 6), "eel": (20, 20, 10, 8)}
    assert found.warnings == ()


def test_lists_say_the_split_and_an_empty_picture_shows_nothing(tmp_path: Path) -> None:
    cvat(tmp_path, objects=False)
    photo(tmp_path / "JPEGImages" / "b c.jpg", WIDTH, HEIGHT, seed=1)
    coloured(tmp_path / "SegmentationClass" / "b c.png", {})
    text(tmp_path / "ImageSets/Segmentation/train.txt", "a\n")
    text(tmp_path / "ImageSets/Segmentation/val.txt", '"b c"\n')

    found = read(tmp_path, Task.SEMANTIC_SEGMENTATION)

    assert [(image.split, len(image.shapes)) for image in found.images] == [("train", 2), ("validation", 0)]
    assert {path for path in found.annotation_files if path.endswith(".txt")} == {
        "labelmap.txt",
        "ImageSets/Segmentation/train.txt",
        "ImageSets/Segmentation/val.txt",
    }


def test_colours_of_no_class_are_told(tmp_path: Path) -> None:
    cvat(tmp_path, objects=False)
    coloured(
        tmp_path / "SegmentationClass" / "a.png",
        {(0, 0, 5, 5): RED, (9, 9, 12, 12): (1, 2, 3), (20, 0, 22, 2): (224, 224, 192)},
    )

    found = read(tmp_path, Task.SEMANTIC_SEGMENTATION)

    assert next(words for words in found.warnings if "no declared class" in words).startswith("1 pictures have pixels")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("classes.txt", "cod\neel\n", "line 1 must be background"),
        ("classes.txt", "\nbackground\ncod\n", "line 2 must be background"),
        ("classes.txt", "background\n", "has no class but the background"),
        ("classes.txt", "background\ncod\ncod\n", "line 3 has the name of an earlier line"),
        ("labelmap.txt", "background:0,0,0::\ncod:300,0,0::\n", "line 2 is not a name with a colour"),
        ("labelmap.txt", "background:0,0,0::\ncod\n", "line 2 is not a name with a colour"),
        ("labelmap.txt", "cod:1,2,3::\neel:1,2,3::\n", "line 2 has the colour of an earlier line"),
        ("labelmap.txt", ":1,2,3::\n", "line 1 is not a class name"),
    ],
)
def test_a_legend_that_is_none_is_refused_by_its_line(tmp_path: Path, file: str, content: str, words: str) -> None:
    photo(tmp_path / "images/a.png", WIDTH, HEIGHT)
    coloured(tmp_path / "masks/a.png", {(0, 0, 5, 5): RED})
    text(tmp_path / file, content)

    with pytest.raises(RefusedError, match=words):
        read(tmp_path, Task.SEMANTIC_SEGMENTATION, "Masks")


def test_pictures_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    cvat(tmp_path)
    coloured(tmp_path / "SegmentationObject/a.png", {(2, 3, 25, 25): RED})
    with pytest.raises(RefusedError, match="1 objects whose pixels belong to several classes"):
        read(tmp_path, Task.INSTANCE_SEGMENTATION)
    coloured(tmp_path / "SegmentationObject/a.png", {}, (5, 5))
    with pytest.raises(RefusedError, match="has another size than the picture of its objects"):
        read(tmp_path, Task.INSTANCE_SEGMENTATION)
    coloured(tmp_path / "SegmentationClass/lost.png", {(0, 0, 5, 5): RED})
    coloured(tmp_path / "SegmentationObject/a.png", {})
    with pytest.raises(RefusedError, match=r"have no image: labelmap\.txt: the picture SegmentationClass/lost\.png"):
        read(tmp_path, Task.SEMANTIC_SEGMENTATION)


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    cvat(tmp_path, objects=False)
    (tmp_path / "SegmentationClass/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RefusedError, match=r"SegmentationClass/a\.png is not a PNG that can be decoded"):
        read(tmp_path, Task.SEMANTIC_SEGMENTATION)


def test_the_format_is_recognised(tmp_path: Path) -> None:
    assert registry.detect(tree_of(cvat(tmp_path))).name == "Masks"
