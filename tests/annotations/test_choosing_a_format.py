"""Format Auto takes the one layout that fits, and says what it looked for if none or several fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from image_sources import coco, document, photo, read, text, tree_of
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Format


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


def _voc(root: Path) -> None:
    photo(root / "JPEGImages" / "a.png")
    text(root / "Annotations" / "a.xml", '<?xml version="1.0"?>\n<annotation verified="yes">\n</annotation>')


@pytest.mark.parametrize(
    ("make", "name"),
    [(_imagefolder, "ImageFolder"), (_coco, "Coco"), (_yolo, "Yolo"), (_voc, "Voc")],
    ids=["ImageFolder", "Coco", "Yolo", "Voc"],
)
def test_one_layout_fits(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path)
    assert name == registry.detect(tree_of(tmp_path)).name


def test_none_fits(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    with pytest.raises(RefusedError, match=r"fit no known format \(found a\.png\).*instances_.*data\.yaml") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.FORMAT_NOT_RECOGNISED
    assert caught.value.failure.field == "format"


def test_several_fit(tmp_path: Path) -> None:
    _yolo(tmp_path)
    _coco(tmp_path)
    with pytest.raises(RefusedError, match=r"more than one format \(Coco, Yolo\)\. ") as caught:
        read(tmp_path)
    message = caught.value.failure.message
    assert "Coco: annotations.json is named like the files of Coco; " in message
    assert "Yolo: data.yaml may name the classes of label files. Set format to" in message
    assert caught.value.failure.reason is Reason.FORMAT_NOT_RECOGNISED
    assert read(tmp_path, name="Coco").images[0].boxes


def test_several_fit_by_what_their_files_hold(tmp_path: Path) -> None:
    _voc(tmp_path)
    text(tmp_path / "annotations.xml", "<annotations><version>1.1</version><image id='0' name='a.png'/></annotations>")
    shape = {"label": "cod", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}
    document(tmp_path / "JPEGImages" / "a.json", {"version": "5.0.1", "imagePath": "a.png", "shapes": [shape]})
    with pytest.raises(RefusedError, match=r"more than one format \(Voc, LabelMe, Cvat\)\. ") as caught:
        read(tmp_path)
    message = caught.value.failure.message
    assert "Voc: Annotations/a.xml is XML that begins with <annotation>; " in message
    assert "LabelMe: JPEGImages/a.json is written like the files of LabelMe; " in message
    assert "Cvat: annotations.xml is written like the files of Cvat. " in message


def test_every_format_says_what_it_recognised(tmp_path: Path) -> None:
    for number, make in enumerate((_imagefolder, _coco, _yolo, _voc)):
        make(tmp_path / str(number))
        tree = tree_of(tmp_path / str(number))
        assert registry.detect(tree).evidence(tree)
    empty = tree_of(tmp_path / "0")
    silent = {known.name for known in registry.FORMATS if known.evidence is Format.evidence}
    assert not silent
    assert registry.FORMATS.named("LabelMe").evidence(empty) is None


def test_annotations_of_another_task(tmp_path: Path) -> None:
    _imagefolder(tmp_path)
    with pytest.raises(RefusedError, match="set task to Classification") as caught:
        read(tmp_path, Task.DETECTION)
    assert caught.value.failure.reason is Reason.TASK_MISMATCH


def test_a_data_yaml_beside_class_folders_leaves_the_choice(tmp_path: Path) -> None:
    _imagefolder(tmp_path)
    text(tmp_path / "data.yaml", "names: [cod, eel]")
    with pytest.raises(
        RefusedError, match="set format to ImageFolder when the folders say what images show, or task to"
    ):
        read(tmp_path, Task.CLASSIFICATION)
    assert read(tmp_path, Task.CLASSIFICATION, "ImageFolder").classes == ("cod", "eel")


def test_folders_of_the_parts_of_a_darknet_export_are_no_classes(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "valid")):
        photo(tmp_path / f"obj_{part}_data" / f"{part}.png", seed=seed)
        text(tmp_path / f"obj_{part}_data" / f"{part}.txt", "0 0.5 0.5 0.5 0.5")
        text(tmp_path / f"{part}.txt", f"data/obj_{part}_data/{part}.png\n")
    text(tmp_path / "obj.names", "cod\n")
    assert [image.split for image in read(tmp_path).images] == ["train", "validation"]


def test_texts_named_after_the_images_in_class_folders_leave_the_choice(tmp_path: Path) -> None:
    _imagefolder(tmp_path)
    photo(tmp_path / "cod" / "b.png", seed=1)
    text(tmp_path / "cod" / "b.txt", "Caught off Bergen.")
    assert registry.detect(tree_of(tmp_path)).name == "ImageFolder"
    text(tmp_path / "eel" / "a.txt", "0 0.5 0.5 0.5 0.5")
    with pytest.raises(RefusedError, match=r"cod/b\.txt, eel/a\.txt may hold annotations: set format to ImageFolder"):
        read(tmp_path, Task.CLASSIFICATION)
    assert read(tmp_path, Task.CLASSIFICATION, "ImageFolder").classes == ("cod", "eel")


@pytest.mark.parametrize("name", ["environment.yml", "CITATION.yaml"])
def test_any_other_yaml_is_not_of_yolo_without_label_files(tmp_path: Path, name: str) -> None:
    _imagefolder(tmp_path)
    text(tmp_path / name, "name: fish")
    with pytest.raises(RefusedError, match=rf"{name} may hold annotations: set format to ImageFolder") as caught:
        read(tmp_path, Task.CLASSIFICATION)
    assert caught.value.failure.reason is Reason.FORMAT_NOT_RECOGNISED
    text(tmp_path / name, "names: [cod]")
    text(tmp_path / "cod" / "a.txt", "0 0.5 0.5 0.5 0.5")
    assert registry.detect(tree_of(tmp_path)).name == "Yolo"


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("result.json", r"If result\.json is of Coco, set format to Coco\."),
        (
            "annotations.xml",
            r"annotations\.xml is not XML of Voc: export it as Coco, Yolo or Voc\.",
        ),
        ("fish/data.yaml", r"fish/data\.yaml may be Yolo: let source\.volume\.path name its folder\."),
    ],
)
def test_what_the_files_look_like_to_a_person_is_said(tmp_path: Path, file: str, hint: str) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / file, "{}")
    with pytest.raises(RefusedError, match=rf"{hint} What prevents them"):
        read(tmp_path)
