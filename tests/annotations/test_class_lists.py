"""Class names and split lists in text files, as darknet, CVAT and LabelImg leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_sources import photo, read, text
from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations.model import Collection


def source(root: Path, images: str = "images/{}.png", count: int = 4) -> Path:
    """Images with one box each, of the classes 0 and 1, without class names."""
    for number in range(count):
        path = images.format(number)
        photo(root / path, seed=number)
        label = path.replace("images/", "labels/").replace(".png", ".txt")
        text(root / label, f"{number % 2} 0.5 0.5 0.5 0.5\n")
    return root


def splits(found: Collection) -> list[str | None]:
    return [image.split for image in found.images]


def test_the_lists_that_obj_data_names_are_the_splits(tmp_path: Path) -> None:
    source(tmp_path)
    text(tmp_path / "fish.names", "cod\neel\n")
    text(tmp_path / "other.names", "a\nb\n")
    text(
        tmp_path / "obj.data",
        "classes=2\ntrain = data/tr.txt\nvalid=/home/me/va.txt\nnames=data/fish.names\nbackup = x/",
    )
    text(tmp_path / "tr.txt", "data/images/0.png\ndata/images/1.png\n")
    text(tmp_path / "va.txt", "data/images/2.png\ndata/images/3.png\n")

    found = read(tmp_path)

    assert found.classes == ("cod", "eel")
    assert splits(found) == ["train", "train", "validation", "validation"]
    assert found.annotation_files[:4] == ("fish.names", "tr.txt", "va.txt", "obj.data")


def test_a_file_that_obj_data_names_and_that_is_not_there_is_said(tmp_path: Path) -> None:
    source(tmp_path)
    text(tmp_path / "obj.names", "cod\neel\n")
    text(tmp_path / "obj.data", "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n")
    text(tmp_path / "train.txt", "".join(f"data/images/{number}.png\n" for number in range(4)))
    found = read(tmp_path)
    assert splits(found) == ["train"] * 4
    assert "obj.data names files that do not exist, or several at once: valid" in found.warnings


def test_two_files_of_names_that_differ_are_refused(tmp_path: Path) -> None:
    source(tmp_path)
    text(tmp_path / "fish.names", "cod\neel\n")
    text(tmp_path / "coco.names", "a\nb\n")
    with pytest.raises(RefusedError, match=r"coco\.names, fish\.names name the classes differently"):
        read(tmp_path)


@pytest.mark.parametrize("place", ["{}/labels/classes.txt", "labels/{}/classes.txt"])
def test_class_names_in_the_labels_of_each_split_must_be_the_same(tmp_path: Path, place: str) -> None:
    images = place.replace("labels", "images").replace("classes.txt", "{}{{}}.png")
    for split in ("train", "val"):
        source(tmp_path, images.format(split, split), 2)
        text(tmp_path / place.format(split), "cod\neel\n")
    found = read(tmp_path)
    assert found.classes == ("cod", "eel")
    assert splits(found) == ["train", "train", "validation", "validation"]

    text(tmp_path / place.format("val"), "eel\ncod\n")
    with pytest.raises(RefusedError, match="name the classes differently, or in another order"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["0 0.5 0.5 0.3 0.3\n", ""], ids=["row", "empty"])
def test_the_labels_of_an_image_called_classes_are_no_class_names(tmp_path: Path, content: str) -> None:
    source(tmp_path)
    photo(tmp_path / "images" / "classes.png", seed=9)
    text(tmp_path / "labels" / "classes.txt", content)
    with pytest.raises(RefusedError, match=r"there is neither data\.yaml nor classes\.txt; Yolo expects"):
        read(tmp_path, name="Yolo")

    text(tmp_path / "data.yaml", "names: [cod, eel]\n")
    found = read(tmp_path)
    assert found.warnings == ()
    assert len(found.images) == 5


def test_rows_are_no_class_names(tmp_path: Path) -> None:
    source(tmp_path)
    text(tmp_path / "classes.txt", "0 0.5 0.5 0.3 0.3\n1 0.5 0.5 0.3 0.3\n")
    with pytest.raises(RefusedError, match=r"classes\.txt, line 1 is a row of a label file, not a class name"):
        read(tmp_path)
