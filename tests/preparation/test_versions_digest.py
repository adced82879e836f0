"""A version's name follows from its content and recipe alone: not from the machine, the place, the time or the files' order."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import dataset_versions
import image_sources
from pelagos_pipelines.preparation import versions


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {str(file.relative_to(folder)): file.stat() for file in folder.rglob("*") if file.is_file()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items() if name != ".lock"}


def test_the_same_content_elsewhere_and_later_is_the_same_version(tmp_path: Path) -> None:
    first = dataset_versions.write(tmp_path / "a", dataset_versions.detection(tmp_path / "here"))
    moved = shutil.copytree(tmp_path / "here", tmp_path / "far" / "away")
    for file in moved.rglob("*"):
        os.utime(file, (1, 1))
    second = dataset_versions.write(tmp_path / "b", moved)
    assert second.digest == first.digest
    for name in ("manifest.json", "annotations.json"):
        assert (second.folder / name).read_bytes() == (first.folder / name).read_bytes()


def test_the_description_of_a_version_gives_its_digest_without_its_images(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "here"))
    shutil.rmtree(tmp_path / "store" / "blobs")

    assert versions.digest_of(version.folder) == version.digest


def test_the_order_in_which_a_file_lists_images_and_boxes_says_nothing(tmp_path: Path) -> None:
    boxes: dict[str, list[list[float]]] = {"a.png": [[1, 1, 5, 5], [2, 2, 5, 5]], "b.png": [[3, 3, 5, 5]]}
    turned = {name: listed[::-1] for name, listed in reversed(boxes.items())}
    digests = set()
    for number, listed in enumerate((boxes, turned)):
        source = tmp_path / f"source{number}"
        for seed, name in enumerate(("a.png", "b.png")):
            image_sources.photo(source / name, seed=seed)
        image_sources.document(source / "annotations.json", image_sources.coco(listed))
        digests.add(dataset_versions.write(tmp_path / f"store{number}", source).digest)
    assert len(digests) == 1


def test_writing_again_changes_no_file(tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source")
    first = dataset_versions.write(tmp_path / "store", source)
    before = _snapshot(tmp_path / "store")
    assert dataset_versions.write(tmp_path / "store", source) == first
    assert _snapshot(tmp_path / "store") == before


def _another_pixel(source: Path) -> None:
    image_sources.photo(source / "images" / "1.png", 41, 30, seed=99)


def _another_box(source: Path) -> None:
    (source / "labels" / "1.txt").write_text("0 0.5 0.5 0.25 0.1")


def _another_class_name(source: Path) -> None:
    (source / "data.yaml").write_text("names: [cod, ling]\n")


def _another_name(source: Path) -> None:
    (source / "images" / "0.png").rename(source / "images" / "00.png")
    (source / "labels" / "0.txt").rename(source / "labels" / "00.txt")


@pytest.mark.parametrize("change", [_another_pixel, _another_box, _another_class_name, _another_name])
def test_other_content_is_another_version_beside_the_first(tmp_path: Path, change: Any) -> None:
    source = dataset_versions.detection(tmp_path / "source")
    first = dataset_versions.write(tmp_path / "store", source)
    change(source)
    second = dataset_versions.write(tmp_path / "store", source)
    assert second.digest != first.digest
    assert versions.read(first.folder) == first


def test_another_recipe_is_another_version_that_shares_all_images(tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source")
    first = dataset_versions.write(tmp_path / "store", source)
    second = dataset_versions.write(tmp_path / "store", source, recipe={"split": {"seed": 2}})
    assert second.digest != first.digest
    assert second.blobs == first.blobs
    assert len([file for file in (tmp_path / "store" / "blobs").rglob("*") if file.is_file()]) == 9


def test_the_files_are_those_of_the_contract(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    manifest = json.loads((version.folder / "manifest.json").read_text())
    assert version.folder == tmp_path / "store" / "versions" / version.digest
    assert manifest["digest"] == f"sha256:{version.digest}"
    assert manifest["classes"] == ["cod", "eel"]
    assert manifest["recipe"] == dataset_versions.RECIPE
    image = manifest["images"][2]
    blob = tmp_path / "store" / "blobs" / image["sha256"][:2] / image["sha256"][2:]
    assert blob.read_bytes() == (tmp_path / "source" / image["path"]).read_bytes()
    assert image["size"] == blob.stat().st_size
    assert (image["path"], image["width"], image["height"], image["split"]) == ("images/2.png", 42, 30, "test")
    marks = json.loads((version.folder / "annotations.json").read_text())["images"][1]
    assert marks == {
        "path": "images/1.png",
        "boxes": [
            {
                "class": "cod",
                "x": pytest.approx(15.375),
                "y": pytest.approx(1.5),
                "width": pytest.approx(10.25),
                "height": pytest.approx(3),
            }
        ],
    }
