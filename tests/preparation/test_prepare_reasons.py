"""Every reason for which a preparation refuses, from a real source to failure.json, as the author of the YAML reads it.

The step itself runs, with real files; only the full disk is simulated.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, text
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_pipelines.steps.prepare import prepare

ELSEWHERE = {
    Reason.SOURCE_NOT_READABLE,
    Reason.SOURCE_NOT_ALLOWED,
    Reason.SOURCE_ACCESS_DENIED,
    Reason.SOURCE_SECRET_INCOMPLETE,
    Reason.SOURCE_INVALID,
    Reason.SOURCE_CHANGED,
    Reason.TAXONOMY_UNAVAILABLE,
    Reason.DATASET_NOT_READABLE,
    Reason.CHECKPOINT_INVALID,
    Reason.UNTRUSTED_CHECKPOINT,
    Reason.TRAINING_DIVERGED,
    Reason.SEARCH_FAILED,
    Reason.SLICES_IMPOSSIBLE,
    Reason.LEAVE_ONE_OUT_IMPOSSIBLE,
    Reason.OUT_OF_MEMORY,
    Reason.PARITY_FAILED,
    Reason.DISK_FULL,
    Reason.STORAGE_REFUSED,
    Reason.REQUEST_NOT_UNDERSTOOD,
    Reason.WORKSPACE_ALTERED,
    Reason.REPOSITORY_NOT_ALLOWED,
    Reason.REPOSITORY_ACCESS_DENIED,
    Reason.REPOSITORY_SECRET_INCOMPLETE,
    Reason.REPOSITORY_AWAY,
    Reason.PUBLICATION_REFUSED,
    Reason.METADATA_INCOMPLETE,
}
"""Covered elsewhere: reasons of reading versions and workspaces, and of training; tests/sources covers rights and fetching,
tests/publishing covers publishing, and test_prepare_taxonomy.py an unavailable register.

A test below fills the disk.
"""


@dataclass(frozen=True)
class Case:
    """A source that ``make`` writes into an empty folder, the request, and the field and words of the refusal."""

    reason: Reason
    at: str
    words: tuple[str, ...]
    make: Callable[[Path], object]
    asked: dict[str, Any] = field(default_factory=dict)


def _fish(source: Path, count: int = 6) -> None:
    for number in range(count):
        photo(source / ("cod", "eel")[number % 2] / f"{number}.png", seed=number)


def _a_table_of_cod(source: Path) -> None:
    _fish(source)
    text(source / "taxa.csv", "label,AphiaID,ScientificName\ncod,126436,Gadus morhua\n")


def _nothing(source: Path) -> None:
    source.rmdir()


def _papers(source: Path) -> None:
    text(source / "report.pdf", "no image")


def _loose_images(source: Path) -> None:
    for number in range(3):
        photo(source / f"{number}.png", seed=number)


def _class_folders_and_loose_images(source: Path) -> None:
    _fish(source)
    photo(source / "stray.png", seed=99)


def _seven_damaged(source: Path) -> None:
    _fish(source)
    for number in range(7):
        path = photo(source / "cod" / f"cut{number}.png", seed=50 + number)
        path.write_bytes(path.read_bytes()[: 200 + number])


def _a_copy(source: Path) -> None:
    _fish(source)
    (source / "eel" / "copy.png").write_bytes((source / "cod" / "0.png").read_bytes())


def _stamps(source: Path) -> None:
    for number in range(6):
        photo(source / ("cod", "eel")[number % 2] / f"{number}.png", 8, 8, seed=number)


def _box_beyond(source: Path) -> None:
    photo(source / "a.png")
    document(source / "annotations.json", coco({"a.png": [[30, 20, 15, 5], [1, 1, 0, 5]]}))


def _unknown_class(source: Path) -> None:
    text(source / "data.yaml", "names: [cod]")
    photo(source / "images" / "a.png")
    text(source / "labels" / "a.txt", "3 0.5 0.5 0.1 0.1")


def _label_alone(source: Path) -> None:
    text(source / "data.yaml", "names: [cod]")
    photo(source / "images" / "a.png")
    text(source / "labels" / "b.txt", "0 0.5 0.5 0.1 0.1")


def _eel_in_test_alone(source: Path) -> None:
    photo(source / "train" / "cod" / "a.png", seed=1)
    photo(source / "test" / "eel" / "b.png", seed=2)


def _one_station(source: Path) -> None:
    for number in range(6):
        photo(source / ("cod", "eel")[number % 2] / "station1" / f"{number}.png", seed=number)


CASES = (
    Case(Reason.SOURCE_NOT_FOUND, "source.volume.path", ("'fish' is neither a folder nor an archive",), _nothing),
    Case(Reason.SOURCE_EMPTY, "source.volume.path", ("'fish' holds 1 files", "none of them is an image"), _papers),
    Case(
        Reason.FORMAT_NOT_RECOGNISED,
        "format",
        ("fit no known format", "ImageFolder: ", "Coco: ", "Yolo: "),
        _loose_images,
    ),
    Case(
        Reason.FORMAT_INVALID,
        "format",
        ("1 images lie in no class folder: stray.png",),
        _class_folders_and_loose_images,
        {"format": "ImageFolder"},
    ),
    Case(
        Reason.TASK_MISMATCH,
        "task",
        ("task is Detection, but", "ImageFolder", "set task to Classification"),
        _fish,
        {"task": "Detection"},
    ),
    Case(
        Reason.CORRUPT_IMAGES,
        "cleaning.corrupt",
        ("7 images cannot be read: cod/cut0.png (", "cod/cut4.png (", " and 2 more", "set cleaning.corrupt to Drop"),
        _seven_damaged,
        {"cleaning": {"corrupt": "Fail"}},
    ),
    Case(
        Reason.DUPLICATE_IMAGES,
        "cleaning.duplicates.action",
        ("1 duplicates", "eel/copy.png repeats cod/0.png", "KeepFirst"),
        _a_copy,
        {"cleaning": {"duplicates": {"action": "Fail"}}},
    ),
    Case(Reason.NO_IMAGES_LEFT, "cleaning", ("of 6 images 0 are unreadable and 6", "minSide (16 pixels)"), _stamps),
    Case(
        Reason.ANNOTATION_OUTSIDE_IMAGE,
        "source",
        ("2 faults", "a.png (cod: 30, 20, 15, 5)", "annotations[1]: x, y, width and height are 1, 1, 0, 5"),
        _box_beyond,
        {"task": "Detection"},
    ),
    Case(
        Reason.UNKNOWN_CLASS,
        "source",
        ("labels/a.txt, line 1: class 3 is not declared", "which has 1"),
        _unknown_class,
        {"task": "Detection"},
    ),
    Case(
        Reason.LABELS_INVALID,
        "labels.exclude",
        ("no annotation has the class Cod (nearest is cod), but cod, eel",),
        _fish,
        {"labels": {"exclude": ["Cod"]}},
    ),
    Case(
        Reason.CAPTURE_INVALID,
        "capture.file",
        ("the source has no file survey.csv; files beside images are none",),
        _fish,
        {"capture": {"from": "Csv", "file": "survey.csv"}},
    ),
    Case(
        Reason.TAXA_UNKNOWN,
        "labels.taxonomy.onUnknown",
        ("1 classes are no taxa of taxa.csv: eel: it is not in the table", "labels.taxonomy.ids"),
        _a_table_of_cod,
        {"labels": {"taxonomy": {"authority": "WoRMS", "table": "taxa.csv", "onUnknown": "Fail"}}},
    ),
    Case(Reason.LABEL_WITHOUT_IMAGE, "source", ("1 label files", "labels/b.txt"), _label_alone, {"task": "Detection"}),
    Case(
        Reason.CLASS_MISSING_FROM_TRAIN,
        "split",
        ("1 classes have no image in train: eel",),
        _eel_in_test_alone,
        {"split": {"policy": "Provided"}},
    ),
    Case(
        Reason.SPLIT_IMPOSSIBLE,
        "split.ratios",
        ("1 groups cannot be divided into 3 splits",),
        _one_station,
        {"split": {"policy": "Grouped"}},
    ),
)


def _prepare(folder: Path, asked: dict[str, Any]) -> Failure:
    request = {"source": {"volume": {"path": "fish"}}, "task": "Classification"} | asked
    with pytest.raises(RefusedError):
        prepare(json.dumps(request), str(folder / "data"), str(folder / "store"), str(folder / "report"))
    return Failure.model_validate_json((folder / "report" / "failure.json").read_bytes())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason.value)
def test_a_refusal_names_what_is_wrong_and_where(tmp_path: Path, case: Case) -> None:
    source = tmp_path / "data" / "fish"
    source.mkdir(parents=True)
    case.make(source)
    failure = _prepare(tmp_path, case.asked)
    assert (failure.reason, failure.field) == (case.reason, case.at)
    for words in case.words:
        assert words in failure.message
    assert len(failure.message) < 2500
    assert not (tmp_path / "report" / "result.json").exists()
    assert list((tmp_path / "store" / "versions").iterdir()) == []


def test_every_reason_of_a_preparation_is_among_them() -> None:
    assert {case.reason for case in CASES} == set(Reason) - ELSEWHERE


def test_a_full_disk_is_reported_and_leaves_no_half_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "data" / "fish"
    source.mkdir(parents=True)
    _fish(source)
    real = os.fsync

    def full(descriptor: int) -> None:
        if "/blobs/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        failure = _prepare(tmp_path, {})
    assert failure.reason is Reason.DISK_FULL
    assert "free space on the volume" in failure.message
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {".lock", "inspections.json"}


def test_a_refusal_is_taken_back_when_the_source_is_put_right(tmp_path: Path) -> None:
    source = tmp_path / "data" / "fish"
    source.mkdir(parents=True)
    _class_folders_and_loose_images(source)
    asked = {"source": {"volume": {"path": "fish"}}, "task": "Classification", "format": "ImageFolder"}
    _prepare(tmp_path, asked)
    (source / "stray.png").unlink()
    prepare(json.dumps(asked), str(tmp_path / "data"), str(tmp_path / "store"), str(tmp_path / "report"))
    assert (tmp_path / "report" / "result.json").exists()
    assert not (tmp_path / "report" / "failure.json").exists()
