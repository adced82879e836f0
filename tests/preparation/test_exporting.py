"""A version written for another program: whole or not at all, in files that belong to the caller."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import pytest

import dataset_versions
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import linking
from pelagos_pipelines.preparation import exporting, versions


@pytest.fixture
def version(tmp_path: Path) -> versions.Version:
    return dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))


def test_files_are_copies_that_may_be_changed(version: versions.Version, tmp_path: Path) -> None:
    target = tmp_path / "out" / "fish"

    images, altered = exporting.export(str(version.folder), "yolo", target)

    assert (images, list(altered)) == (9, [])
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".png"]) == 9
    assert {path.stat().st_nlink for path in files} == {1}
    assert not (target / versions.MARKER).exists()
    for path in files:
        path.write_bytes(b"changed")
    versions.verify(versions.read(version.folder))


def test_a_folder_that_holds_something_is_left_alone(version: versions.Version, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")

    with pytest.raises(FileExistsError, match="name a folder that is empty"):
        exporting.export(str(version.folder), "coco", tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_empty_folder_is_filled(version: versions.Version, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    exporting.export(str(version.folder), "coco", tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["annotations", "images"]


def test_nothing_stays_of_an_export_for_which_there_is_no_room(
    version: versions.Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(blob: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(linking, "link", full)

    with pytest.raises(OSError, match=r"space|room"):
        exporting.export(str(version.folder), "voc", tmp_path / "out" / "fish")

    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_export_left_is_cleared_and_what_another_writes_is_not(
    version: versions.Version, tmp_path: Path
) -> None:
    killed, busy = (tmp_path / "out" / f".fish.partial-{name}" for name in ("killed", "busy"))
    for folder in (killed, busy):
        (folder / "view").mkdir(parents=True)
    held = os.open(busy, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)

        exporting.export(str(version.folder), "coco", tmp_path / "out" / "fish")
    finally:
        os.close(held)

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".fish.partial-busy", "fish"]


def test_a_format_that_cannot_hold_the_task_is_refused(tmp_path: Path) -> None:
    source = dataset_versions.classification(tmp_path / "source")
    version = dataset_versions.write(tmp_path / "store", source, Task.CLASSIFICATION)

    with pytest.raises(RefusedError) as refused:
        exporting.export(str(version.folder), "voc", tmp_path / "out")

    assert refused.value.failure.reason is Reason.TASK_MISMATCH
    assert not (tmp_path / "out").exists()


def test_the_program_answers_in_json(
    version: versions.Version, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exporting.main([str(version.folder), "coco", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": 9, "altered": []}

    assert exporting.main([str(tmp_path / "gone"), "coco", str(tmp_path / "other")]) == 1
    assert "prepare the dataset again" in json.loads(capsys.readouterr().out)["error"]
