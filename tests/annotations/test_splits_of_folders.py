"""Folders train, val and test that neither annotations nor settings name: they are splits all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, read, text

BOX = "0 0.5 0.5 0.5 0.5\n"
FOLDERS = {"train": "train", "Valid": "validation", "test2017": "test", "pier": None}


def photos(root: Path, layout: str) -> list[str]:
    """An image in each folder, and its path there."""
    names = [f"{folder}/{number}.png" for number, folder in enumerate(FOLDERS)]
    for seed, name in enumerate(names):
        photo(root / layout.format(name), seed=seed)
    return names


@pytest.mark.parametrize("layout", ["{}", "images/{}", "pool/{}"])
def test_one_coco_file_for_all_folders_leaves_the_splits_to_them(tmp_path: Path, layout: str) -> None:
    names = photos(tmp_path, layout)
    document(tmp_path / "annotations.json", coco({layout.format(name): [[0, 0, 5, 5]] for name in names}))
    assert {image.split for image in read(tmp_path).images} == set(FOLDERS.values())
    assert {Path(image.path).parent.name: image.split for image in read(tmp_path).images} == FOLDERS


def test_the_name_of_a_coco_file_and_what_it_says_of_an_image_count_before_folders(tmp_path: Path) -> None:
    for seed, name in enumerate(("val/a.png", "val/b.png")):
        photo(tmp_path / name, seed=seed)
    content = coco({"val/a.png": [[0, 0, 5, 5]], "val/b.png": []})
    images: Any = content["images"]
    images[0]["split"] = "test"
    document(tmp_path / "annotations_train.json", content)
    assert [image.split for image in read(tmp_path).images] == ["test", "train"]


@pytest.mark.parametrize("settings", ["classes.txt", "data.yaml", "obj.names"])
def test_settings_without_splits_leave_them_to_the_folders(tmp_path: Path, settings: str) -> None:
    for name in photos(tmp_path, "images/{}"):
        text((tmp_path / "labels" / name).with_suffix(".txt"), BOX)
    text(tmp_path / settings, "names: [cod]\n" if settings.endswith("yaml") else "cod\n")
    found = read(tmp_path, name="Yolo")
    assert {Path(image.path).parent.name: image.split for image in found.images} == FOLDERS


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_an_image_in_folders_of_two_splits_is_in_none_and_said(tmp_path: Path, kind: str) -> None:
    photo(tmp_path / "images" / "train" / "test" / "a.png")
    if kind == "coco":
        document(tmp_path / "annotations.json", coco({"train/test/a.png": [[0, 0, 5, 5]]}))
    else:
        text(tmp_path / "classes.txt", "cod\n")
        text(tmp_path / "labels" / "train" / "test" / "a.txt", BOX)
    found = read(tmp_path)
    assert found.images[0].split is None
    assert found.overlapping == ("images/train/test/a.png",)
    assert found.warnings == (
        "1 images lie in folders named like more than one split, which count as in none: images/train/test/a.png",
    )
