"""Format Auto takes the one layout that fits, and says what it looked for when none or several do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from image_sources import coco, document, photo, read, text, tree_of
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Collection
from pelagos_pipelines.contract import Reason, RefusedError, Task


def _imagefolder(root: Path) -> None:
    for name in ("cod", "eel"):
        photo(root / name / "a.png")


def _coco(root: Path) -> None:
    photo(root / "a.png")
    document(root / "annotations.json", coco({"a.png": [[0, 0, 5, 5]]}))


def _yolo(root: Path) -> None:
    photo(root / "images" / "a.png")
    text(root / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    text(root / "data.yaml", "names: [cod]")


@pytest.mark.parametrize(
    ("make", "name"),
    [(_imagefolder, "ImageFolder"), (_coco, "Coco"), (_yolo, "Yolo")],
    ids=["ImageFolder", "Coco", "Yolo"],
)
def test_one_layout_fits(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path)
    assert name == registry.detect(tree_of(tmp_path)).NAME


def test_none_fits(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    with pytest.raises(RefusedError, match=r"fit no known format \(found a\.png\).*instances_.*data\.yaml") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.FORMAT_NOT_RECOGNISED
    assert caught.value.failure.field == "format"


def test_several_fit(tmp_path: Path) -> None:
    _yolo(tmp_path)
    _coco(tmp_path)
    with pytest.raises(RefusedError, match=r"more than one format \(Coco, Yolo\); set format") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.FORMAT_NOT_RECOGNISED
    assert read(tmp_path, name="Coco").images[0].boxes


def test_annotations_of_another_task(tmp_path: Path) -> None:
    _imagefolder(tmp_path)
    with pytest.raises(RefusedError, match="set task to Classification") as caught:
        read(tmp_path, Task.DETECTION)
    assert caught.value.failure.reason is Reason.TASK_MISMATCH


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("result.json", r"If result\.json is of Coco, set format to Coco\."),
        (
            "Annotations/a.xml",
            r"Annotations/a\.xml may be of Pascal VOC, which is not read: convert them to Coco or Yolo\.",
        ),
        ("fish/data.yaml", r"fish/data\.yaml may be of Yolo: let source\.volume\.path name its folder\."),
    ],
)
def test_what_the_files_look_like_to_a_person_is_said(tmp_path: Path, file: str, hint: str) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / file, "{}")
    with pytest.raises(RefusedError, match=rf"{hint} What keeps them"):
        read(tmp_path)


# --- splits that only folders tell


def _in_folders(root: Path, name: str, folders: tuple[str, ...]) -> None:
    for number, folder in enumerate(folders):
        photo(root / "images" / folder / f"{number}.png", seed=number)
        text(root / "labels" / folder / f"{number}.txt", "0 0.5 0.5 0.5 0.5")
    if name == "Yolo":
        text(root / "classes.txt", "cod")
    else:
        boxes: dict[str, list[list[float]]] = {
            f"images/{folder}/{number}.png": [[0, 0, 5, 5]] for number, folder in enumerate(folders)
        }
        document(root / "annotations.json", coco(boxes))


def _read(root: Path) -> Collection:
    tree = tree_of(root)
    return registry.read(registry.detect(tree), tree, lambda _: (40, 30))


@pytest.mark.parametrize("name", ["Yolo", "Coco"])
def test_folders_of_images_are_splits_when_nothing_else_says_any(tmp_path: Path, name: str) -> None:
    _in_folders(tmp_path, name, ("train", "dev", "holdout", "train/dive1"))
    splits = {image.path.split("/", 1)[1]: image.split for image in _read(tmp_path).images}
    assert splits == {
        "dev/1.png": "validation",
        "holdout/2.png": "test",
        "train/0.png": "train",
        "train/dive1/3.png": "train",
    }


@pytest.mark.parametrize("name", ["Yolo", "Coco"])
def test_folders_of_images_of_which_some_are_splits_are_said_and_none_is_one(tmp_path: Path, name: str) -> None:
    _in_folders(tmp_path, name, ("train", "test", "extra"))
    found = _read(tmp_path)
    assert {image.split for image in found.images} == {None}
    assert found.warnings[-1].startswith("2 images lie in folders named like splits (images/test/1.png, ")
    assert "and 1 do not (images/extra/2.png): none is taken for a split" in found.warnings[-1]


@pytest.mark.parametrize("folders", [("train", "train"), ("dive1", "dive2")])
def test_folders_that_divide_nothing_are_no_splits(tmp_path: Path, folders: tuple[str, ...]) -> None:
    _in_folders(tmp_path, "Yolo", folders)
    found = _read(tmp_path)
    assert {image.split for image in found.images} == {None}
    assert found.warnings == ()
