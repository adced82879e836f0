"""YOLO as ultralytics, Roboflow and Label Studio write it. Fractions become pixels of the real image."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_sources import photo, read, text
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.model import Box, Exclusion


def test_fractions_become_pixels_and_an_image_with_an_empty_label_file_is_a_background(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod, eel]\n")
    photo(tmp_path / "images" / "a.png", 200, 100)
    photo(tmp_path / "images" / "b.png")
    text(tmp_path / "labels" / "b.txt", "")
    text(tmp_path / "labels" / "a.txt", "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.1 0.2\n")
    found = read(tmp_path)
    assert found.classes == ("cod", "eel")
    shown, background = found.images
    assert shown.boxes[0] == Box("eel", 75, 25, 50, 50)
    assert shown.boxes[1].label == "cod"
    assert shown.boxes[1].x == pytest.approx(10)
    assert shown.boxes[1].height == pytest.approx(20)
    assert background.boxes == ()


def test_polygons_become_their_bounding_box(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: {0: cod}\n")
    photo(tmp_path / "images" / "a.png", 100, 100)
    text(tmp_path / "labels" / "a.txt", "0 0.25 0.5 0.5 0.25 0.75 1\n")
    assert read(tmp_path).images[0].boxes == (Box("cod", 25, 25, 50, 75),)


@pytest.mark.parametrize(
    ("settings", "layout"),
    [
        pytest.param("path: .\ntrain: images/train\nval: images/val\ntest: images/test", "images/{}", id="ultralytics"),
        pytest.param("train: ../train/images\nval: ../val/images\ntest: ../test/images", "{}/images", id="roboflow"),
        pytest.param("train: [images/train]\nval: [images/val]\ntest: [images/test]", "images/{}", id="lists"),
        pytest.param("train: train.txt\nval: val.txt\ntest: test.txt", "images/{}", id="listings"),
        pytest.param(
            "path: /home/someone/fish\ntrain: images/train\nval: images/val\ntest: images/test",
            "images/{}",
            id="elsewhere",
        ),
    ],
)
def test_train_val_and_test_of_the_settings_are_the_splits(tmp_path: Path, settings: str, layout: str) -> None:
    text(tmp_path / "data.yaml", f"{settings}\nnames: [cod]\n")
    for split in ("train", "val", "test"):
        photo(tmp_path / layout.format(split) / f"{split}.png")
        labels = tmp_path / layout.replace("images", "labels").format(split)
        text(labels / f"{split}.txt", "0 0.5 0.5 0.5 0.5")
        if "txt" in settings:
            text(tmp_path / f"{split}.txt", f"./images/{split}/{split}.png\n")
    splits = {Path(image.path).stem: image.split for image in read(tmp_path).images}
    assert splits == {"train": "train", "val": "validation", "test": "test"}


def test_an_image_in_two_splits_counts_as_in_none(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: images\nval: images\n")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    found = read(tmp_path)
    assert found.images[0].split is None
    assert "1 images are in more than one split" in found.warnings[0]
    assert found.overlapping == ("images/a.png",)


def test_class_names_may_be_in_a_text_file_also_beside_the_labels(tmp_path: Path) -> None:
    text(tmp_path / "classes.txt", "cod\neel\n")
    text(tmp_path / "labels" / "classes.txt", "cod\neel\n")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "1 0.5 0.5 0.5 0.5")
    found = read(tmp_path)
    assert found.classes == ("eel",)
    assert found.warnings == ("classes that no annotation uses are left out: cod",)


def test_copies_that_roboflow_made_of_one_image_are_a_group(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    for copy in ("0a1b2c3d4e5f60718293a4b5c6d7e8f9", "ffeeddccbbaa99887766554433221100"):
        photo(tmp_path / "images" / f"dive_jpg.rf.{copy}.jpg")
        text(tmp_path / "labels" / f"dive_jpg.rf.{copy}.txt", "0 0.5 0.5 0.5 0.5")
    assert {image.group for image in read(tmp_path).images} == {"dive_jpg"}


def test_an_image_without_a_label_file_is_left_out_by_name(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    for name in ("a.png", "b.png"):
        photo(tmp_path / "images" / name)
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")

    found = read(tmp_path)

    assert [image.path for image in found.images] == ["images/a.png"]
    assert found.excluded == (Exclusion("images/b.png", ExclusionReason.UNLABELLED),)
    assert found.warnings == (
        "1 images have no label file and are left out: images/b.png; a background, which shows nothing, needs an empty one",
    )


def test_what_no_split_of_the_settings_names_is_left_out_by_name(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: images/train\n")
    for name in ("images/train/a.png", "images/extra/b.png", "labels.jpg", "runs/detect/train/results.png"):
        photo(tmp_path / name)
    for name in ("labels/train/a.txt", "labels/extra/b.txt", "runs/detect/predict/labels/a.txt"):
        text(tmp_path / name, "0 0.5 0.5 0.5 0.5")

    found = read(tmp_path)

    assert [image.path for image in found.images] == ["images/train/a.png"]
    assert {one.path for one in found.excluded if one.reason is ExclusionReason.UNLISTED} == {
        "images/extra/b.png",
        "labels.jpg",
        "labels/extra/b.txt",
        "runs/detect/train/results.png",
    }
    assert found.annotation_files == ("data.yaml", "labels/train/a.txt")
    assert found.warnings[0].startswith("3 images are in no split of data.yaml and are left out: images/extra/b.png, ")


def test_a_label_file_beside_the_images_whose_image_is_missing_is_refused(tmp_path: Path) -> None:
    text(tmp_path / "classes.txt", "cod\n")
    photo(tmp_path / "a.png")
    for name in ("a.txt", "gone.txt"):
        text(tmp_path / name, "0 0.5 0.5 0.5 0.5")

    with pytest.raises(RefusedError, match=r"1 label files or annotation entries have no image: gone\.txt;") as caught:
        read(tmp_path, name="Yolo")

    assert caught.value.failure.reason is Reason.LABEL_WITHOUT_IMAGE


def test_other_text_files_are_no_labels_and_an_empty_one_is_named(tmp_path: Path) -> None:
    text(tmp_path / "classes.txt", "cod\n")
    photo(tmp_path / "a.png")
    text(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "README.txt", "Images of cod, 2019.\n")
    text(tmp_path / "gone.txt", "")

    found = read(tmp_path, name="Yolo")

    assert found.excluded == (Exclusion("gone.txt", ExclusionReason.LABEL_WITHOUT_IMAGE),)
    assert found.warnings == ("1 label files are empty and have no image: gone.txt",)


def test_images_of_which_none_has_a_label_file_are_refused_with_where_it_was_looked_for(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: images/train\n")
    photo(tmp_path / "images" / "train" / "a.png")
    text(tmp_path / ".labels" / "train" / "a.txt", "0 0.5 0.5 0.5 0.5")

    with pytest.raises(
        RefusedError, match=r"none of 1 images .* labels/train/a\.txt for images/train/a\.png"
    ) as caught:
        read(tmp_path)

    assert caught.value.failure.reason is Reason.TASK_MISMATCH


def test_a_list_that_two_splits_share_is_read_as_one_file(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: all.txt\nval: all.txt\n")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "all.txt", "images/a.png\n")

    assert read(tmp_path).annotation_files == ("data.yaml", "all.txt", "labels/a.txt")


def test_settings_in_a_folder_of_the_source_are_pointed_at(tmp_path: Path) -> None:
    text(tmp_path / "export" / "data.yaml", "names: [cod]\n")
    photo(tmp_path / "export" / "images" / "a.png")

    with pytest.raises(
        RefusedError, match=r"at the root, but export/data\.yaml: let source\.volume\.path name the folder"
    ):
        read(tmp_path, name="Yolo")


@pytest.mark.parametrize("path", [".", "./"])
def test_a_path_that_is_the_source_itself_is_no_reason_for_a_warning(tmp_path: Path, path: str) -> None:
    text(tmp_path / "data.yaml", f"names: [cod]\npath: {path}\ntrain: ./images/\n")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")

    assert read(tmp_path).warnings == ()


def test_names_and_lists_of_darknet_are_read_as_cvat_writes_them(tmp_path: Path) -> None:
    text(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    text(tmp_path / "obj.names", "cod\neel\n")
    for number, split in enumerate(("train", "valid")):
        photo(tmp_path / f"obj_{split}_data" / f"{number}.png", 100, 100, seed=number)
        text(tmp_path / f"obj_{split}_data" / f"{number}.txt", f"{number} 0.5 0.5 0.5 0.5\n")
        text(tmp_path / f"{split}.txt", f"data/obj_{split}_data/{number}.png\n")
    photo(tmp_path / "cover.png")

    found = read(tmp_path)

    assert found.classes == ("cod", "eel")
    assert [image.split for image in found.images] == ["train", "validation"]
    assert found.annotation_files[:3] == ("obj.names", "train.txt", "valid.txt")
    assert found.excluded == (Exclusion("cover.png", ExclusionReason.UNLISTED),)


def test_a_path_of_another_machine_may_end_in_a_folder_that_says_nothing(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: /home/me/fish/images\n")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    assert read(tmp_path).images[0].split == "train"

    text(tmp_path / "data.yaml", "names: [cod]\ntrain: /home/me/fish/images\nval: /home/me/fish/valid/images\n")
    with pytest.raises(RefusedError, match=r"data\.yaml: val "):
        read(tmp_path)


def test_a_label_file_of_two_images_is_named(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    for seed, name in enumerate(("a.png", "a.jpg", "b.png")):
        photo(tmp_path / "images" / name, seed=seed)
        text(tmp_path / "labels" / f"{name[0]}.txt", "0 0.5 0.5 0.5 0.5\n")
    assert read(tmp_path).warnings == (
        "1 label files match the name of more than one image, and each of these gets their boxes: labels/a.txt; check them",
    )


def test_a_label_file_may_be_named_by_the_whole_name_of_its_image(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    for seed, name in enumerate(("a.png", "a.jpg")):
        photo(tmp_path / "images" / name, 100, 100, seed=seed)
        text(tmp_path / "labels" / f"{name}.txt", f"0 0.5 0.5 0.{seed + 1} 0.5\n")
    found = read(tmp_path)
    assert {image.path: round(image.boxes[0].width) for image in found.images} == {
        "images/a.png": 10,
        "images/a.jpg": 20,
    }
    assert found.excluded == ()
    assert found.warnings[0].startswith(
        "2 label files lie where ultralytics would not look, or differ in name from their image"
    )


@pytest.mark.parametrize(("classes", "said"), [("eel\ncod\n", True), ("cod\n", True), ("cod\neel\n", False)])
def test_other_class_names_beside_the_settings_are_said(tmp_path: Path, classes: str, said: bool) -> None:
    text(tmp_path / "data.yaml", "names: [cod, eel]\n")
    text(tmp_path / "classes.txt", classes)
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n")
    assert bool([one for one in read(tmp_path).warnings if one.startswith("classes.txt has other class names")]) is said


def test_a_box_of_two_classes_is_said(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod, eel]\n")
    for name in "ab":
        photo(tmp_path / "images" / f"{name}.png", seed=ord(name))
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    text(tmp_path / "labels" / "b.txt", "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.4\n")
    found = read(tmp_path)
    assert [len(image.boxes) for image in found.images] == [2, 2]
    assert found.warnings == (
        "1 label files give a box for two or more classes; all are kept: labels/a.txt; check them",
    )


def test_class_names_beside_the_labels_are_enough(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "1 0.5 0.5 0.5 0.5\n")
    text(tmp_path / "labels" / "classes.txt", "cod\neel\n")
    found = read(tmp_path)
    assert (found.classes, found.annotation_files) == (("eel",), ("labels/classes.txt", "labels/a.txt"))
