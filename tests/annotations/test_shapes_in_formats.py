"""Shapes that a format has written are read back unchanged, for every task that needs more than a box."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

import dataset_versions
from image_sources import coco, document, photo, read, text
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, registry, shapes
from pelagos_pipelines.annotations.model import Collection, Exclusion, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.preparation import versions

WIDTH, HEIGHT = 40, 30
LABELS = ("cod", "eel")

coordinate = st.floats(1, 28, allow_nan=False).map(lambda value: round(value, 3))
labels = st.sampled_from(LABELS)


@st.composite
def polygons(draw: st.DrawFn) -> Shape:
    """Points around a centre, so that no lines cross, sometimes with a hole."""
    x, y = draw(st.floats(12, 28)), draw(st.floats(12, 18))
    far = draw(st.lists(st.floats(5, 11), min_size=5, max_size=9))
    turns = [2 * np.pi * number / len(far) for number in range(len(far))]
    ring = [
        round(float(one), 3)
        for turn, length in zip(turns, far, strict=True)
        for one in (x + length * np.cos(turn), y + length * np.sin(turn))
    ]
    hole = [round(one, 3) for one in (x - 2, y - 2, x + 2, y - 2, x + 2, y + 2, x - 2, y + 2)]
    return shapes.polygon(draw(labels), ring, holes=[hole] if draw(st.booleans()) else [])


@st.composite
def pictures(draw: st.DrawFn) -> Shape:
    rows = draw(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=4, max_size=4).filter(_any))
    return masks.of_array(draw(labels), rows, (draw(st.integers(0, 30)), draw(st.integers(0, 20))))


def _any(rows: list[list[bool]]) -> bool:
    return any(map(any, rows))


@st.composite
def rectangles(draw: st.DrawFn) -> Shape:
    sides = (draw(coordinate) / 3 + 8, draw(coordinate) / 3 + 5, draw(coordinate) / 2, draw(coordinate) / 2)
    return shapes.rectangle(draw(labels), *sides, draw(st.sampled_from([0.0, 20.0, 45.0, 90.0, 133.5])))


def written(root: Path, name: str, task: Task, found: Sequence[Shape]) -> Path:
    """A view of one image with the shapes."""
    image = photo(root / "blob.png", WIDTH, HEIGHT)
    record = ImageRecord("a.png", WIDTH, HEIGHT, split="train", shapes=tuple(found))
    write = registry.FORMATS.named(name).write
    assert write is not None
    write(root / "view", Collection(task, LABELS, (record,)), {"a.png": image})
    if name == "Yolo":
        # The view names its own folder, for ultralytics; a source is read from any place.
        (root / "view/data.yaml").write_text(f"names: [{', '.join(LABELS)}]")
    return root / "view"


def pixels(found: Sequence[Shape]) -> dict[str, Any]:
    """The pixels that the shapes of each class cover."""
    covered: dict[str, Any] = {label: np.zeros((HEIGHT, WIDTH), bool) for label in LABELS}
    for shape in found:
        outline = shape if shape.kind in {Kind.POLYGON, Kind.MASK} else shapes.outlined(shape)
        assert outline is not None
        covered[shape.label] |= masks.drawn(outline, WIDTH, HEIGHT)
    return covered


slow = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@slow
@pytest.mark.parametrize("name", ["Coco", "Yolo"])
@given(found=st.lists(st.one_of(polygons(), pictures()), min_size=1, max_size=4))
def test_outlines_cover_the_same_pixels_after_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, name: str, found: list[Shape]
) -> None:
    root = tmp_path_factory.mktemp("round")

    back = read(written(root, name, Task.INSTANCE_SEGMENTATION, found), Task.INSTANCE_SEGMENTATION)

    (image,) = back.images
    before, after = pixels(found), pixels(image.shapes)
    for label in LABELS:
        assert (before[label] == after[label]).all()


@slow
@pytest.mark.parametrize("name", ["Coco", "Yolo"])
@given(found=st.lists(rectangles(), min_size=1, max_size=4))
def test_turned_boxes_are_the_same_after_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, name: str, found: list[Shape]
) -> None:
    root = tmp_path_factory.mktemp("round")

    back = read(written(root, name, Task.ORIENTED_DETECTION, found), Task.ORIENTED_DETECTION)

    (image,) = back.images
    given_, again = (
        sorted({(shape.label, *sorted(round(one, 3) for one in shapes.corners_of(shape))) for shape in some})
        for some in (found, image.shapes)
    )
    for one, other in zip(given_, again, strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], abs=2e-3)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_pycocotools_draws_what_coco_files_of_ours_say(tmp_path: Path) -> None:
    frame = shapes.polygon("cod", [0, 0, 12, 0, 12, 12, 0, 12], holes=[[4, 4, 8, 4, 8, 8, 4, 8]])
    blob = masks.of_array("eel", [[1, 1, 0], [0, 1, 1]], (20, 10))
    view = written(tmp_path, "Coco", Task.INSTANCE_SEGMENTATION, [frame, blob])

    theirs = COCO(view / "annotations/instances_train.json")

    for shape, annotation in zip((frame, blob), theirs.loadAnns(theirs.getAnnIds()), strict=True):
        assert (theirs.annToMask(annotation).astype(bool) == masks.drawn(shape, WIDTH, HEIGHT)).all()
        assert annotation["area"] == masks.drawn(shape, WIDTH, HEIGHT).sum()
        assert annotation["bbox"] == list(shape.sides or ())


def marked(**more: Any) -> dict[str, Any]:
    return {"id": 0, "image_id": 10, "category_id": 7, "iscrowd": 0} | more


def coco_of(root: Path, *annotations: dict[str, Any]) -> Path:
    """A COCO file with these annotations of one image."""
    photo(root / "a.png", WIDTH, HEIGHT)
    content = coco({"a.png": []}) | {"annotations": [one | {"id": n} for n, one in enumerate(annotations)]}
    document(root / "annotations.json", content)
    return root


def test_both_run_length_encodings_and_polygons_in_parts_are_read(tmp_path: Path) -> None:
    inside: Any = np.zeros((HEIGHT, WIDTH), bool)
    inside[5:9, 3:8] = True
    runs = masks.columns_of(inside)
    size = [HEIGHT, WIDTH]
    coco_of(
        tmp_path,
        marked(segmentation={"size": size, "counts": runs}),
        marked(segmentation={"size": size, "counts": masks.compressed(runs)}, bbox=[3, 5, 5, 4]),
        marked(segmentation=[[1, 1, 5, 1, 5, 5], [10, 10, 15, 10, 15, 15]]),
    )

    found = read(tmp_path, Task.INSTANCE_SEGMENTATION)

    (image,) = found.images
    kinds = sorted(shape.kind for shape in image.shapes)
    assert kinds == [Kind.MASK, Kind.POLYGON]  # the two masks are one object
    assert [(each.kind, each.reason) for each in found.altered] == [("mask", Change.REPEATED)]
    assert image.shapes[0].rings == (3, 3) or image.shapes[1].rings == (3, 3)


def test_key_points_and_crowds_are_no_objects_of_a_segmentation(tmp_path: Path) -> None:
    coco_of(
        tmp_path,
        marked(keypoints=[1, 2, 2, 3, 4, 1], num_keypoints=2, bbox=[1, 2, 5, 5]),
        marked(segmentation=[[1, 1, 5, 1, 5, 5]], iscrowd=1),
        marked(segmentation=[[1, 1, 9, 1, 9, 9]]),
    )

    found = read(tmp_path, Task.INSTANCE_SEGMENTATION)

    assert len(found.images[0].shapes) == 1
    assert found.images[0].crowds == (shapes.polygon("cod", [1, 1, 5, 1, 5, 5]),)
    assert [(each.kind, each.reason) for each in found.altered] == [("key points", Change.LEFT_OUT)]
    assert any("crowds" in warning for warning in found.warnings)


def test_the_pixels_of_a_crowd_are_of_its_class(tmp_path: Path) -> None:
    coco_of(tmp_path, marked(segmentation=[[1, 1, 5, 1, 5, 5]], iscrowd=1))
    (image,) = read(tmp_path, Task.SEMANTIC_SEGMENTATION).images
    assert (image.shapes, image.crowds) == ((shapes.polygon("cod", [1, 1, 5, 1, 5, 5]),), ())


@pytest.mark.parametrize("task", [Task.INSTANCE_SEGMENTATION, Task.ORIENTED_DETECTION, Task.PANOPTIC_SEGMENTATION])
def test_crowds_are_the_same_after_writing_and_reading(tmp_path: Path, task: Task) -> None:
    square = masks.of_array("cod", np.ones((6, 7)), (20, 10))
    region = masks.of_array("cod", np.ones((12, 9)), (2, 3))
    if task is Task.ORIENTED_DETECTION:
        square, region = shapes.rectangle("cod", 20, 10, 7, 6), shapes.rectangle("cod", 2, 3, 9, 12, 30.0)
    record = ImageRecord("a.png", WIDTH, HEIGHT, split="train", shapes=(square,), crowds=(region,))
    write = registry.FORMATS.named("Coco").write
    assert write is not None
    write(tmp_path / "view", Collection(task, LABELS, (record,)), {"a.png": photo(tmp_path / "b.png", WIDTH, HEIGHT)})

    (image,) = read(tmp_path / "view", task).images

    for found, want in ((image.shapes, square), (image.crowds, region)):
        assert [replace(shape, attributes={}) for shape in found] == [want]


def test_an_image_of_crowds_alone_is_no_background(tmp_path: Path) -> None:
    coco_of(tmp_path, marked(segmentation=[[1, 1, 5, 1, 5, 5]], iscrowd=1))
    photo(tmp_path / "b.png", WIDTH, HEIGHT)
    content = json.loads((tmp_path / "annotations.json").read_text())
    content["images"].append({"id": 11, "file_name": "b.png", "width": WIDTH, "height": HEIGHT})
    content["annotations"].append(marked(id=5, image_id=11, segmentation=[[1, 1, 5, 1, 5, 5]]))
    document(tmp_path / "annotations.json", content)

    found = read(tmp_path, Task.INSTANCE_SEGMENTATION)

    assert [image.path for image in found.images] == ["b.png"]
    assert found.excluded == (Exclusion("a.png", ExclusionReason.UNLABELLED),)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 5, 1]], r"annotations\[0\]: a polygon has a ring of fewer than three points"),
        ([[1, 1, 5, 1, 5]], r"not x and y"),
        ([["x", 1, 5, 1, 5, 5]], r"segmentation must be a list of finite numbers"),
        ({"size": [3, 3], "counts": [9]}, r"is 3 x 3 pixels, but the image has 40 x 30"),
        ({"size": [HEIGHT, WIDTH], "counts": [5]}, r"adds up to 5 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}, r"a mask has no pixel"),
    ],
)
def test_an_outline_that_is_none_is_refused_by_its_place(tmp_path: Path, segmentation: Any, words: str) -> None:
    coco_of(tmp_path, marked(segmentation=segmentation))

    with pytest.raises(RefusedError, match=words) as refused:
        read(tmp_path, Task.INSTANCE_SEGMENTATION)
    assert refused.value.failure.reason is Reason.FORMAT_INVALID


def test_rows_of_boxes_are_outlines_of_four_points_and_say_so(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png", WIDTH, HEIGHT)
    text(tmp_path / "data.yaml", "names: [cod]")
    text(tmp_path / "labels/a.txt", "0 0.5 0.5 0.25 0.2\n0 0.1 0.1 0.2 0.1 0.2 0.3\n")

    found = read(tmp_path, Task.INSTANCE_SEGMENTATION)

    assert sorted(shape.rings for shape in found.images[0].shapes) == [(3,), (4,)]
    assert [(each.kind, each.reason, each.annotations) for each in found.altered] == [("rectangle", Change.OUTLINE, 1)]


def test_a_version_keeps_shapes_and_is_the_same_on_every_machine(tmp_path: Path) -> None:
    source = coco_of(tmp_path / "source", marked(segmentation=[[1, 1, 9.5, 1, 9, 9]], attributes={"occluded": True}))

    version = dataset_versions.write(tmp_path / "store", source, Task.INSTANCE_SEGMENTATION)

    (image,) = versions.read(version.folder).collection.images
    assert image.shapes == (shapes.polygon("cod", [1, 1, 9.5, 1, 9, 9], attributes={"occluded": "true"}),)
    again = dataset_versions.write(tmp_path / "another", source, Task.INSTANCE_SEGMENTATION)
    assert version.digest == again.digest


def test_a_version_of_shapes_is_written_as_yolo(tmp_path: Path) -> None:
    source = coco_of(tmp_path / "source", marked(segmentation=[[4, 3, 20, 3, 20, 15]]))
    version = dataset_versions.write(tmp_path / "store", source, Task.INSTANCE_SEGMENTATION)

    versions.materialise(version.folder, "yolo", tmp_path / "view")

    (label,) = (tmp_path / "view/labels/train").iterdir()
    assert label.read_text() == "0 0.10000000 0.10000000 0.50000000 0.10000000 0.50000000 0.50000000\n"


def test_panoptic_pictures_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    ground = masks.of_array("eel", np.ones((HEIGHT, WIDTH)), attributes={"isthing": "false"})
    fish = shapes.polygon("cod", [4, 4, 14, 4, 14, 14, 4, 14])
    view = written(tmp_path, "Coco", Task.PANOPTIC_SEGMENTATION, [fish, ground])

    found = read(view, Task.PANOPTIC_SEGMENTATION)

    (image,) = found.images
    by_class = {shape.label: shape for shape in image.shapes}
    assert masks.on_image(by_class["cod"], WIDTH, HEIGHT).sum() == 100
    assert masks.on_image(by_class["eel"], WIDTH, HEIGHT).sum() == WIDTH * HEIGHT - 100
    assert {label: shape.attributes["isthing"] for label, shape in by_class.items()} == {"cod": "true", "eel": "false"}
    assert "annotations/panoptic_train/000000_a.png" in found.annotation_files
    assert found.excluded == ()


def test_what_a_panoptic_picture_cannot_hold_is_counted(tmp_path: Path) -> None:
    record = ImageRecord(
        "a.png",
        WIDTH,
        HEIGHT,
        split="train",
        shapes=(shapes.polygon("cod", [4, 4, 14, 4, 14, 14]), shapes.polygon("eel", [4, 4, 24, 4, 24, 24])),
    )
    write = registry.FORMATS.named("Coco").write
    assert write is not None
    blobs = {"a.png": photo(tmp_path / "blob.png", WIDTH, HEIGHT)}

    altered = write(tmp_path / "view", Collection(Task.PANOPTIC_SEGMENTATION, LABELS, (record,)), blobs)

    assert altered is not None
    assert [(each.kind, each.reason, each.annotations) for each in altered] == [("polygon", Change.COVERED, 1)]


def test_a_panoptic_file_without_its_pictures_is_refused(tmp_path: Path) -> None:
    view = written(tmp_path, "Coco", Task.PANOPTIC_SEGMENTATION, [shapes.polygon("cod", [4, 4, 14, 4, 14, 14])])
    for picture in (view / "annotations/panoptic_train").iterdir():
        picture.unlink()

    with pytest.raises(RefusedError, match="is not in a folder panoptic_train"):
        read(view, Task.PANOPTIC_SEGMENTATION)


def test_a_panoptic_file_may_say_the_split_of_an_image(tmp_path: Path) -> None:
    view = written(tmp_path, "Coco", Task.PANOPTIC_SEGMENTATION, [shapes.polygon("cod", [4, 4, 14, 4, 14, 14])])
    file = view / "annotations/panoptic_train.json"
    content = json.loads(file.read_text())
    content["images"][0]["split"] = "test"
    document(file, content)

    assert read(view, Task.PANOPTIC_SEGMENTATION).images[0].split == "test"


def test_a_panoptic_picture_without_colours_is_refused(tmp_path: Path) -> None:
    view = written(tmp_path, "Coco", Task.PANOPTIC_SEGMENTATION, [shapes.polygon("cod", [4, 4, 14, 4, 14, 14])])
    (picture,) = (view / "annotations/panoptic_train").iterdir()
    Image.open(picture).convert("L").save(picture)

    with pytest.raises(RefusedError, match="not a picture of red, green and blue"):
        read(view, Task.PANOPTIC_SEGMENTATION)


def test_an_outline_of_a_category_that_is_not_declared_is_of_an_unknown_class(tmp_path: Path) -> None:
    coco_of(tmp_path, marked(segmentation=[[1, 1, 5, 1, 5, 5]], category_id=99))

    with pytest.raises(RefusedError, match="1 annotations with undeclared categories") as refused:
        read(tmp_path, Task.INSTANCE_SEGMENTATION)
    assert refused.value.failure.reason is Reason.UNKNOWN_CLASS
