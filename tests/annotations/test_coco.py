"""COCO as its exporters write it: gaps between ids, one file per split, images beside the file or in images/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, read
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.model import Box, Exclusion
from pelagos_pipelines.annotations.shapes import rectangle


def test_boxes_are_pixels_of_the_original_and_images_without_any_are_kept(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / "images" / name)
    document(tmp_path / "annotations.json", coco({"a.png": [[1, 2.5, 10, 20]], "b.png": []}))
    found = read(tmp_path)
    assert found.classes == ("cod",)
    assert [(image.path, image.boxes) for image in found.images] == [
        ("images/a.png", (Box("cod", 1, 2.5, 10, 20),)),
        ("images/b.png", ()),
    ]


@pytest.mark.parametrize("first", [0, 1, 4000])
def test_category_ids_may_begin_anywhere_and_have_gaps(tmp_path: Path, first: int) -> None:
    photo(tmp_path / "a.png")
    categories = [{"id": first + 90, "name": "eel"}, {"id": first, "name": "cod"}, {"id": first + 3, "name": "unused"}]
    content = coco({"a.png": [[0, 0, 5, 5], [5, 5, 5, 5]]}, categories=categories)
    marks: Any = content["annotations"]
    marks[0]["category_id"], marks[1]["category_id"] = first + 90, first
    document(tmp_path / "annotations.json", content)
    found = read(tmp_path)
    assert found.classes == ("cod", "eel")
    assert [box.label for box in found.images[0].boxes] == ["eel", "cod"]
    assert found.warnings == ("classes that no annotation uses are left out: unused",)


@pytest.mark.parametrize(
    ("labels", "images"),
    [
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/instances_{}.json", "{}"),
        ("{}/_annotations.coco.json", "{}"),
    ],
)
@pytest.mark.parametrize("validation", ["val2017", "valid", "val"])
def test_the_name_of_the_file_or_of_its_folder_is_the_split(
    tmp_path: Path, labels: str, images: str, validation: str
) -> None:
    for split in ("train", validation, "test"):
        photo(tmp_path / images.format(split) / f"{split}.png")
        document(tmp_path / labels.format(split), coco({f"{split}.png": [[0, 0, 5, 5]]}))
    splits = {Path(image.path).stem: image.split for image in read(tmp_path).images}
    assert splits == {"train": "train", validation: "validation", "test": "test"}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_test-dev2017", "test"),
        ("instances_test_dev", "test"),
        ("instances_train_val", None),
        ("instances_trainval2017", None),
        ("instances_urchin_test_train", "train"),
        ("instances_train_set", "train"),
    ],
)
def test_the_name_of_a_file_is_one_split_or_none(tmp_path: Path, name: str, split: str | None) -> None:
    photo(tmp_path / "a.png")
    document(tmp_path / f"{name}.json", coco({"a.png": [[0, 0, 5, 5]]}))
    assert read(tmp_path).images[0].split == split


def test_groups_and_splits_of_images_are_honoured(tmp_path: Path) -> None:
    content = coco({"a.png": [[0, 0, 5, 5]], "b.png": []})
    images: Any = content["images"]
    images[0] |= {"group": "dive-3", "split": "val"}
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    document(tmp_path / "annotations.json", content)
    assert [(image.group, image.split) for image in read(tmp_path).images] == [("dive-3", "validation"), (None, None)]


def test_a_split_that_is_none_is_refused(tmp_path: Path) -> None:
    content = coco({"a.png": [[0, 0, 5, 5]]})
    images: Any = content["images"]
    images[0]["split"] = "tomorrow"
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", content)
    with pytest.raises(RefusedError, match=r"images\[0\]\.split must be one of train") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.FORMAT_INVALID


CROWDS = (
    "annotations mark crowds (iscrowd): regions in which detections of their class are not judged; for SemanticSegmentation, "
    "pixels of the class"
)


def test_crowds_are_no_objects_and_annotations_without_an_outline_are_left_out(tmp_path: Path) -> None:
    content = coco({"a.png": [[0, 0, 5, 5], [1, 1, 2, 2], [3, 3, 4, 4]]})
    marks: Any = content["annotations"]
    marks[1] = {"id": 1, "image_id": 10, "category_id": 7, "keypoints": [1, 1, 2]}
    marks[2]["iscrowd"] = 1
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", content)
    found = read(tmp_path)
    assert found.images[0].boxes == (Box("cod", 0, 0, 5, 5),)
    assert found.images[0].crowds == (rectangle("cod", 3, 3, 4, 4),)
    assert set(found.warnings) == {
        "1 annotations without a bounding box are left out",
        f"1 {CROWDS}",
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"bbox": [0, 0, -3, 4]}, r"annotations\[1\].*a box without area; correct or remove it"),
        ({"bbox": [0, 0, "wide", 4]}, r"annotations\[1\]\.bbox must hold four finite numbers"),
        ({"iscrowd": "yes"}, r"annotations\[1\]\.iscrowd must be 0 or 1"),
    ],
)
def test_a_crowd_that_is_no_region_is_refused(tmp_path: Path, said: dict[str, object], words: str) -> None:
    content = coco({"a.png": [[0, 0, 5, 5], [1, 1, 2, 2]]})
    marks: Any = content["annotations"]
    marks[1] = marks[1] | {"iscrowd": 1} | said
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", content)
    with pytest.raises(RefusedError, match=words):
        read(tmp_path)


def test_a_crowd_of_a_class_that_no_object_is_of_is_counted_and_left_out(tmp_path: Path) -> None:
    content = coco({"a.png": [[0, 0, 5, 5], [1, 1, 2, 2]]})
    content["categories"] = [{"id": 7, "name": "cod"}, {"id": 8, "name": "krill"}]
    marks: Any = content["annotations"]
    marks[1] |= {"iscrowd": 1, "category_id": 8}
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", content)
    found = read(tmp_path)
    assert (found.classes, found.images[0].crowds) == (("cod",), ())
    assert [(each.kind, each.reason, each.annotations) for each in found.altered] == [("rectangle", Change.CROWD, 1)]


def test_a_source_without_boxes_and_outlines_is_of_another_task(tmp_path: Path) -> None:
    marks = [{"id": 1, "image_id": 10, "category_id": 7, "segmentation": [], "bbox": []}]
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", coco({"a.png": []}, annotations=marks))
    with pytest.raises(RefusedError, match="no image has a bounding box") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.TASK_MISMATCH


def test_images_that_no_file_lists_are_left_out_with_a_word(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    document(tmp_path / "annotations.json", coco({"a.png": [[0, 0, 5, 5]]}))
    found = read(tmp_path)
    assert [image.path for image in found.images] == ["a.png"]
    assert found.warnings == ("1 images are in no annotation file and are left out: b.png",)
    assert found.excluded == (Exclusion("b.png", ExclusionReason.UNLISTED),)
    assert found.annotation_files == ("annotations.json",)


def test_annotations_that_are_all_left_out_are_counted_in_the_refusal(tmp_path: Path) -> None:
    content = coco({"a.png": [[0, 0, 5, 5], [1, 1, 2, 2], [3, 3, 4, 4]]})
    marks: Any = content["annotations"]
    marks[0]["iscrowd"] = marks[1]["iscrowd"] = 1
    del marks[2]["bbox"]
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", content)
    with pytest.raises(RefusedError, match="no image has a bounding box") as caught:
        read(tmp_path)
    message = caught.value.failure.message
    assert f"(2 {CROWDS}; 1 annotations without a bounding box are left out)" in message
    assert "set iscrowd to 0 where an annotation shows one object" in message


@pytest.mark.parametrize("name", ["val.json", "person_keypoints_val.json", "boxes.json"])
def test_a_file_of_another_name_with_boxes_of_images_that_no_file_lists_is_refused(tmp_path: Path, name: str) -> None:
    for image in ("train/a.png", "val/b.png"):
        photo(tmp_path / image)
    document(tmp_path / "annotations" / "instances_train.json", coco({"a.png": [[0, 0, 5, 5]]}))
    document(tmp_path / "annotations" / name, coco({"b.png": [[0, 0, 5, 5]]}))
    with pytest.raises(RefusedError, match="has boxes and lists 1 images that no other annotation file does") as caught:
        read(tmp_path)
    message = caught.value.failure.message
    assert message.startswith(f"annotations/{name} has boxes")
    assert "(val/b.png)" in message
    assert f"rename it to instances_{Path(name).name} to have it read, or move it out of the source" in message


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"version": 3}, id="settings"),
        pytest.param(coco({"a.png": [[0, 0, 9, 9]]}), id="boxes of listed images"),
        pytest.param(coco({"b.png": []}), id="a list of images"),
        pytest.param(coco({"elsewhere.png": [[0, 0, 9, 9]]}), id="boxes of images elsewhere"),
        pytest.param(["b.png"], id="a list"),
    ],
)
def test_other_json_files_are_named_with_the_images_that_no_file_lists(tmp_path: Path, other: object) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    document(tmp_path / "annotations.json", coco({"a.png": [[0, 0, 5, 5]]}))
    document(tmp_path / "settings.json", other)
    assert read(tmp_path).warnings == (
        "1 images are in no annotation file and are left out: b.png; not read were settings.json, because of their names",
    )


@pytest.mark.parametrize(
    ("labels", "image", "name"),
    [
        ("coco/annotations.json", "frames/a.png", "a.png"),
        ("labels_coco/instances_default.json", "Photos/st1/a.png", "st1/a.png"),
        ("coco/annotations.json", "a.png", "frames/a.png"),
    ],
)
def test_annotations_in_a_folder_of_their_own_mean_the_only_image_of_that_name(
    tmp_path: Path, labels: str, image: str, name: str
) -> None:
    photo(tmp_path / image)
    document(tmp_path / labels, coco({name: [[0, 0, 5, 5]]}))
    found = read(tmp_path)
    assert [one.path for one in found.images] == [image]
    assert any(f"matched were {image}" in one for one in found.warnings)


@pytest.mark.parametrize(
    ("labels", "images", "names"),
    [
        (("dive2/annotations/instances_default.json",), ("dive1/images/a.png",), ("a.png",)),
        (("one/annotations.json", "two/annotations.json"), ("one/a.png",), ("a.png", "a.png")),
        (("coco/annotations.json",), ("left/a.png", "right/a.png"), ("a.png",)),
        (("left/annotations.json",), ("left/a.png", "right/b.png"), ("b.png",)),
        (("coco/instances_train.json",), ("frames/val/a.png",), ("a.png",)),
    ],
    ids=["series", "two", "ambiguous", "beside others", "another split"],
)
def test_annotations_never_take_the_images_of_another_folder_that_has_its_own(
    tmp_path: Path, labels: tuple[str, ...], images: tuple[str, ...], names: tuple[str, ...]
) -> None:
    for seed, image in enumerate(images):
        photo(tmp_path / image, seed=seed)
    for path, name in zip(labels, names, strict=True):
        document(tmp_path / path, coco({name: [[0, 0, 5, 5]]}))
    with pytest.raises(RefusedError, match=r"have no image|listed before"):
        read(tmp_path)


def test_classes_that_nothing_shows_are_known(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    categories = [{"id": 7, "name": "cod"}, {"id": 8, "name": "eel"}]
    document(tmp_path / "annotations.json", coco({"a.png": [[0, 0, 5, 5]]}, categories=categories))
    assert read(tmp_path).unused == ("eel",)
