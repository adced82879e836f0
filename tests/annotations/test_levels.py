"""``labels.level``: which folder of a tree, or which level of a hierarchy, is the class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_sources import folders_of, photo, read_folders, tree_of
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Asked, Exclusion

TREE = ("Copepoda/Calanoida/Calanus", "Copepoda/Calanoida/Acartia", "Copepoda/Cyclopoida/Oithona", "Diatoms/Centrales")


def test_a_numbered_level_of_taxa_is_the_class(tmp_path: Path) -> None:
    folders_of(tmp_path, *TREE, "Detritus")
    found = read_folders(tmp_path, None, level=2)
    assert {image.path: image.label for image in found.images} == {
        "Copepoda/Calanoida/Acartia/a.png": "Calanoida",
        "Copepoda/Calanoida/Calanus/a.png": "Calanoida",
        "Copepoda/Cyclopoida/Oithona/a.png": "Cyclopoida",
        "Diatoms/Centrales/a.png": "Centrales",
    }
    assert {image.group for image in found.images} == {None}
    assert found.excluded == (Exclusion("Detritus/a.png", ExclusionReason.UNLABELLED),)
    assert found.warnings == ("1 images lie in fewer folders than labels.level, 2, and are left out: Detritus/a.png",)


def test_levels_may_say_what_class_folder_says(tmp_path: Path) -> None:
    folders_of(tmp_path, *TREE)
    assert read_folders(tmp_path, None, level="First") == read_folders(tmp_path, "First")
    assert read_folders(tmp_path, None, level="Last") == read_folders(tmp_path, "Last")


def test_below_the_topmost_level_lie_lower_taxa_that_group_nothing(tmp_path: Path) -> None:
    folders_of(tmp_path, *TREE)
    found = read_folders(tmp_path, None, level=1)
    assert found.classes == ("Copepoda", "Diatoms")
    assert {image.group for image in found.images} == {None}
    assert found.warnings == ()


@pytest.mark.parametrize("folder", ["train/{}", "{}/images", "{}/test", "data/{}"])
def test_folders_of_splits_and_those_that_say_nothing_are_no_level(tmp_path: Path, folder: str) -> None:
    folders_of(tmp_path, *(folder.format(taxa) for taxa in TREE))
    found = read_folders(tmp_path, None, "ImageFolder", level=2)
    assert found.classes == ("Calanoida", "Centrales", "Cyclopoida")
    assert {image.group for image in found.images} == {None}


def test_stations_below_a_numbered_level_and_above_it_are_groups(tmp_path: Path) -> None:
    folders_of(tmp_path, "pier/cod/haul1", "pier/cod/haul2", "reef/cod/haul1", "reef/eel/haul3")
    found = read_folders(tmp_path, None, level=2)
    assert {image.group for image in found.images} == {"pier/haul1", "pier/haul2", "reef/haul1", "reef/haul3"}
    assert "1 classes lie below more than one folder: cod" in found.warnings[0]


def test_a_level_that_no_image_has_is_refused(tmp_path: Path) -> None:
    folders_of(tmp_path, *TREE)
    with pytest.raises(RefusedError, match=r"labels\.level is 4, but no image lies in more than 3 folders") as caught:
        read_folders(tmp_path, None, level=4)
    assert (caught.value.failure.reason, caught.value.failure.field) == (Reason.LABELS_INVALID, "labels.level")


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("ImageFolder", "Supercategory", "which has a number or First or Last; set it to one of these"),
        ("Coco", 2, "which has Supercategory; set it to one of these"),
        (
            "Yolo",
            "First",
            "in which classes have no levels; leave it out; include, exclude, rename and merge are for all",
        ),
    ],
)
def test_a_level_that_the_format_does_not_have_is_refused(
    tmp_path: Path, name: str, level: int | str, words: str
) -> None:
    photo(tmp_path / "a.png")
    format_ = registry.FORMATS.named(name)
    with pytest.raises(RefusedError, match=re.escape(words)) as caught:
        registry.read(format_, tree_of(tmp_path), lambda _: (1, 1), Asked(Task.DETECTION, level=level))
    assert caught.value.failure.field == "labels.level"
