"""Ready-to-train views: the same images and annotations in another tool's layout, without a second copy of the bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml

import dataset_versions
import image_sources
from pelagos_contract import disk
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import imagefolder, pairing
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.preparation import versions
from small_volumes import small

__all__ = ["small"]


@pytest.fixture
def version(tmp_path: Path) -> versions.Version:
    return dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))


def _shown(collection: Collection) -> list[tuple[object, ...]]:
    """Each image's split, width (by which these images differ) and boxes, whatever the files are called."""
    return sorted(
        (
            image.split,
            image.width,
            [
                (box.label, *(round(value, 3) for value in (box.x, box.y, box.width, box.height)))
                for box in sorted(image.boxes, key=lambda box: (box.label, box.x, box.y))
            ],
        )
        for image in collection.images
    )


def test_the_coco_view_reads_back_as_the_version(version: versions.Version, tmp_path: Path) -> None:
    versions.materialise(version.folder, "coco", tmp_path / "view")
    assert _shown(image_sources.read(tmp_path / "view")) == _shown(version.collection)


def test_the_coco_view_has_areas_and_counts_that_cocos_own_tools_agree_with(
    version: versions.Version, tmp_path: Path
) -> None:
    from pycocotools.coco import COCO

    versions.materialise(version.folder, "coco", tmp_path / "view")
    for split, images in (("train", (0, 3, 6)), ("validation", (1, 4, 7)), ("test", (2, 5, 8))):
        loaded = COCO(str(tmp_path / "view" / "annotations" / f"instances_{split}.json"))
        assert len(loaded.getImgIds()) == 3
        areas = [mark["area"] for mark in loaded.loadAnns(loaded.getAnnIds())]
        assert areas == pytest.approx([(40 + index) * 0.25 * 3 for index in images for _ in range(index)])
        for image in loaded.loadImgs(loaded.getImgIds()):
            assert (tmp_path / "view" / "images" / split / image["file_name"]).is_file()


def test_the_yolo_view_reads_back_as_the_version(version: versions.Version, tmp_path: Path) -> None:
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    found = image_sources.read(tmp_path / "view")
    assert found.classes == version.collection.classes
    boxes = sorted((image.split, len(image.boxes)) for image in found.images)
    assert boxes == sorted((image.split, len(image.boxes)) for image in version.collection.images)


def test_the_settings_of_the_yolo_view_are_ours_alone(version: versions.Version, tmp_path: Path) -> None:
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    settings = yaml.safe_load((tmp_path / "view" / "data.yaml").read_text())
    assert settings == {
        "train": "images/train",
        "val": "images/validation",
        "test": "images/test",
        "names": {0: "cod", 1: "eel"},
    }


def test_the_imagefolder_view_reads_back_as_the_version(tmp_path: Path) -> None:
    source = dataset_versions.classification(tmp_path / "source")
    version = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)
    versions.materialise(version.folder, "imagefolder", tmp_path / "view")
    found = image_sources.read(tmp_path / "view", Task.CLASSIFICATION)
    assert found.classes == version.collection.classes
    content = {(image.split, image.label, (tmp_path / "view" / image.path).read_bytes()) for image in found.images}
    assert content == {
        (image.split, image.label, version.blobs[image.path].read_bytes()) for image in version.collection.images
    }


@pytest.mark.parametrize("name", ["../../../out", "..", "a/b"])
def test_no_class_leads_out_of_the_imagefolder_view(tmp_path: Path, name: str) -> None:
    """A version that others wrote may have any class name; preparations refuse such names earlier."""
    image = ImageRecord("a.png", label=name, split="train")
    view = tmp_path / "store" / "view"

    with pytest.raises(RefusedError, match="cannot be a folder name"):
        imagefolder.write(view, Collection(Task.CLASSIFICATION, (name,), (image,)), {"a.png": tmp_path / "a.png"})

    assert list(tmp_path.iterdir()) == []


def test_images_are_links_that_cannot_be_written_through(version: versions.Version, tmp_path: Path) -> None:
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    blobs = {file.stat().st_ino for file in version.blobs.values()}
    images = [file for file in (tmp_path / "view" / "images").rglob("*") if file.is_file()]
    assert {file.stat().st_ino for file in images} == blobs
    mask = os.umask(0o022)
    os.umask(mask)
    assert {file.stat().st_mode & 0o777 for file in images} == {0o444 & ~mask}


def test_images_are_copied_to_another_file_system(version: versions.Version) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == version.folder.stat().st_dev:
        pytest.skip("this machine has one file system only")
    target = Path(tempfile.mkdtemp(dir=memory))
    try:
        versions.materialise(version.folder, "yolo", target)
        images = {file.read_bytes() for file in (target / "images").rglob("*") if file.is_file()}
        assert images == {blob.read_bytes() for blob in version.blobs.values()}
    finally:
        shutil.rmtree(target)


def test_a_view_for_which_there_is_no_room_says_where_and_nothing_of_it_stays(small: Path, tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source", images=18)
    version = dataset_versions.write(tmp_path / "store", source)  # with labels more files than the volume takes
    with pytest.raises(disk.FullError, match=f"on the volume {small}"):
        versions.materialise(version.folder, "yolo", small / "view")
    assert list(small.iterdir()) == []


def test_names_that_mislead_tools_become_plain_and_stay_apart(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image_sources.text(source / "data.yaml", "names: [cod]")
    names = ["images/a.png", "images/sub/a.png", "images/images/labels.png", "images/[x]*?.png", "images/größe é.png"]
    for seed, name in enumerate(names):
        image_sources.photo(source / name, seed=seed)
        image_sources.text(source / pairing.label_path(name), "")
    image_sources.text(source / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    version = dataset_versions.write(tmp_path / "store", source)
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    found = [file.name for file in (tmp_path / "view" / "images").rglob("*.png")]
    assert len(found) == len(set(found)) == len(names)
    assert all(name.isascii() and not set(name) & set("*?[] ") for name in found)
    shown = {image.path for image in image_sources.read(tmp_path / "view").images if image.boxes}
    assert [path.endswith("_a.png") for path in shown] == [True]


def test_without_validation_images_val_repeats_train_and_says_so(tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source", images=2)
    (source / "images" / "0.png").unlink()
    (source / "labels" / "0.txt").unlink()
    version = dataset_versions.write(tmp_path / "store", source)
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    settings = (tmp_path / "view" / "data.yaml").read_text()
    assert yaml.safe_load(settings)["val"] == "images/train"
    assert settings.startswith("# The version has no validation images: val repeats train")


def test_a_view_that_is_there_is_left_as_it_is(version: versions.Version, tmp_path: Path) -> None:
    versions.materialise(version.folder, "coco", tmp_path / "view")
    written = (tmp_path / "view" / "annotations" / "instances_train.json").stat().st_mtime_ns
    versions.materialise(version.folder, "coco", tmp_path / "view")
    assert (tmp_path / "view" / "annotations" / "instances_train.json").stat().st_mtime_ns == written


def test_an_interrupted_view_is_made_anew(
    version: versions.Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr("pelagos_pipelines.annotations.yolo.yaml.safe_dump", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            versions.materialise(version.folder, "yolo", tmp_path / "view")
    assert not (tmp_path / "view" / "data.yaml").exists()
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    assert len(image_sources.read(tmp_path / "view").images) == 9


def test_a_folder_with_somebodys_files_is_not_touched(version: versions.Version, tmp_path: Path) -> None:
    mine = image_sources.text(tmp_path / "view" / "thesis.txt", "years of work")
    with pytest.raises(FileExistsError, match="holds other files"):
        versions.materialise(version.folder, "yolo", tmp_path / "view")
    assert mine.read_text() == "years of work"


def test_a_view_of_another_task_is_refused(version: versions.Version, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        versions.materialise(version.folder, "imagefolder", tmp_path / "view")
    assert caught.value.failure.reason is Reason.TASK_MISMATCH
    with pytest.raises(ValueError, match="there are imagefolder, coco, yolo, voc"):
        versions.materialise(version.folder, "tfrecord", tmp_path / "view")
