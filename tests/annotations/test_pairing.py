"""Which text files of a YOLO source are labels of which image, and which are notes, lists, or a model's predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_sources import photo, read, text
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.model import Collection, Exclusion

BOX = "0 0.5 0.5 0.5 0.5\n"


def source(root: Path, images: str = "images", labels: str = "labels") -> Path:
    """Two images with their labels."""
    text(root / "data.yaml", "names: [cod]\n")
    for seed, name in enumerate("ab"):
        photo(root / images / f"{name}.png", seed=seed)
        text(root / labels / f"{name}.txt", BOX)
    return root


@pytest.mark.parametrize("content", ["", " \n\n"], ids=ascii)
@pytest.mark.parametrize("name", ["labels/gone.txt", "labels/old/gone.txt"])
def test_an_empty_label_file_without_an_image_is_left_out_in_labels_too(
    tmp_path: Path, name: str, content: str
) -> None:
    text(source(tmp_path) / name, content)
    found = read(tmp_path)
    assert found.excluded == (Exclusion(name, ExclusionReason.LABEL_WITHOUT_IMAGE),)
    assert found.warnings == (f"1 label files are empty and have no image: {name}",)


@pytest.mark.parametrize("name", ["README.txt", "predefined_classes.txt", "classes.txt", "train.txt"])
def test_notes_names_and_lists_among_labels_are_no_labels(tmp_path: Path, name: str) -> None:
    content = "images/a.png\n" if name == "train.txt" else "cod\nof 2019, in 3 parts\n"
    text(source(tmp_path) / "labels" / name, content)
    found = read(tmp_path)
    assert ([len(image.boxes) for image in found.images], found.excluded) == ([1, 1], ())


@pytest.mark.parametrize("content", [BOX, "cod 0.5 0.5 0.5 0.5\n", "\xff"])
@pytest.mark.parametrize("name", ["gone", "train", "val", "test"])
def test_labels_without_an_image_are_refused_whatever_their_name(tmp_path: Path, name: str, content: str) -> None:
    (source(tmp_path) / "labels" / f"{name}.txt").write_bytes(content.encode("latin-1"))
    with pytest.raises(RefusedError, match=rf"1 label files .* have no image: labels/{name}\.txt") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.LABEL_WITHOUT_IMAGE


@pytest.mark.parametrize("name", ["test", "train", "val"])
def test_labels_of_an_image_that_has_the_name_of_a_split_are_matched(tmp_path: Path, name: str) -> None:
    photo(source(tmp_path) / "images" / f"{name.title()}.png", seed=2)
    text(tmp_path / "labels" / f"{name}.txt", BOX)
    assert [len(image.boxes) for image in read(tmp_path).images] == [1, 1, 1]


@pytest.mark.parametrize(
    "folder",
    [
        "runs/detect/predict",
        "Runs/detect/predict2",
        "yolov5/runs/detect/exp",
        "ultralytics/runs/cod/predict",
        "runs/exp3",
    ],
)
def test_predictions_are_no_labels(tmp_path: Path, folder: str) -> None:
    source(tmp_path)
    (tmp_path / "labels" / "b.txt").unlink()
    photo(tmp_path / folder / "a.png", seed=2)
    for name in "ab":
        text(tmp_path / folder / "labels" / f"{name}.txt", BOX)
    found = read(tmp_path)
    assert [image.path for image in found.images] == ["images/a.png"]
    assert {one.path for one in found.excluded} == {"images/b.png", f"{folder}/a.png"}
    assert told(
        found, f"2 label files lie where ultralytics writes predictions, and are not read: {folder}/labels/a.txt"
    )


def test_where_all_labels_are_predictions_the_refusal_says_so(tmp_path: Path) -> None:
    source(tmp_path, labels="runs/detect/predict/labels")
    with pytest.raises(
        RefusedError, match=r"not at predictions of ultralytics, such as runs/detect/predict/labels/a\.txt"
    ):
        read(tmp_path)


@pytest.mark.parametrize("folders", [("runs/images", "runs/labels"), ("runs/dive1", "runs/dive1/labels")])
def test_folders_called_runs_may_be_those_of_a_robot(tmp_path: Path, folders: tuple[str, str]) -> None:
    source(tmp_path, *folders)
    for name in "ab":
        (tmp_path / folders[0] / f"{name}.png").rename(tmp_path / folders[0] / f"{name.upper()}.png")
    assert [len(image.boxes) for image in read(tmp_path).images] == [1, 1]


def told(found: Collection, words: str) -> bool:
    """Whether a warning begins with these words."""
    return any(one.startswith(words) for one in found.warnings)
