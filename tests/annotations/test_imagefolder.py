"""ImageFolder: the folder is the class, folders above may be splits, folders below may be groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_sources import photo, read
from pelagos_pipelines.contract import Reason, RefusedError, Task


def test_classes_are_the_sorted_folders(tmp_path: Path) -> None:
    for name in ("zander", "Cod", "eel"):
        photo(tmp_path / name / "a.png")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("Cod", "eel", "zander")
    assert {image.path: image.label for image in found.images} == {
        "Cod/a.png": "Cod",
        "eel/a.png": "eel",
        "zander/a.png": "zander",
    }
    assert all(image.split is None for image in found.images)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_folders_above_the_classes_are_splits(tmp_path: Path, validation: str) -> None:
    for split in ("train", validation, "test"):
        for label in ("cod", "eel"):
            photo(tmp_path / split / label / "a.jpg")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert {image.path.split("/")[0]: image.split for image in found.images} == {
        "train": "train",
        validation: "validation",
        "test": "test",
    }


def test_folders_below_the_class_are_groups(tmp_path: Path) -> None:
    photo(tmp_path / "cod" / "station-4" / "a.png")
    photo(tmp_path / "eel" / "b.png")
    groups = {image.path: image.group for image in read(tmp_path, Task.CLASSIFICATION).images}
    assert groups == {"cod/station-4/a.png": "station-4", "eel/b.png": None}


def test_suffixes_may_have_any_case_and_other_files_are_no_images(tmp_path: Path) -> None:
    for path in ("cod/a.JPG", "cod/b.Jpeg", "eel/c.PNG"):
        photo(tmp_path / path)
    (tmp_path / "eel" / "notes.txt").write_text("calm sea")
    (tmp_path / "eel" / ".hidden.png").write_bytes(b"")
    assert [image.path for image in read(tmp_path, Task.CLASSIFICATION).images] == [
        "cod/a.JPG",
        "cod/b.Jpeg",
        "eel/c.PNG",
    ]


def test_images_in_no_class_folder_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "cod" / "a.png")
    photo(tmp_path / "stray.png")
    with pytest.raises(RefusedError, match=r"1 images lie in no class folder: stray\.png") as caught:
        read(tmp_path, Task.CLASSIFICATION, "ImageFolder")
    assert caught.value.failure.reason is Reason.FORMAT_INVALID
