"""Kill, full disk, edits and bit rot: a version exists completely or not at all, and nothing damaged is used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

import dataset_versions
import image_sources
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Collection, Part
from pelagos_pipelines.preparation import blobs, integrity, locks, verifying, versions

WRITER = """
import sys, pathlib
sys.path[:0] = {path!r}
import dataset_versions
from pelagos_pipelines.preparation import versions
def slow(folder, files):
    (folder.with_name(".partial-" + folder.name)).mkdir()
    print("writing", flush=True)
    sys.stdin.read()
versions._write_folder = slow
dataset_versions.write(pathlib.Path({store!r}), pathlib.Path({source!r}))
"""


KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = {path!r}
import dataset_versions
from pelagos_pipelines.preparation import blobs
real, calls = os.{call}, []
def counted(*arguments, **more):
    calls.append(arguments)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)
write = blobs.write
def begun(*arguments):
    os.{call} = counted
    write(*arguments)
blobs.write = begun
dataset_versions.write(pathlib.Path({store!r}), pathlib.Path({source!r}))
"""


def _unfinished(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.name.startswith(".") and path.name != ".lock"]


def test_a_killed_writer_leaves_no_version_and_the_next_one_clears_up(tmp_path: Path) -> None:
    source, store = dataset_versions.detection(tmp_path / "source"), tmp_path / "store"
    script = WRITER.format(path=[str(Path(__file__).parents[1])], store=str(store), source=str(source))
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    (left,) = (store / "versions").iterdir()
    assert left.name.startswith(".partial-")
    assert dataset_versions.write(store, source).folder.is_dir()
    assert _unfinished(store) == []


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [1, 4, 8])
def test_whatever_image_a_writer_is_killed_at_none_is_there_in_part(tmp_path: Path, call: str, number: int) -> None:
    """Several images are written before the first of them is synced and renamed."""
    source, store = dataset_versions.detection(tmp_path / "source"), tmp_path / "store"
    script = KILLED.format(
        path=[str(Path(__file__).parents[1])], store=str(store), source=str(source), call=call, number=number
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    there = [path for path in (store / "blobs").rglob("*") if path.is_file()]
    assert [path.name.startswith(".partial-") for path in there].count(True) > 0
    for path in there:
        if path.name.startswith("."):
            assert path.stat().st_mode & 0o200, "the next writer may not be root, and writes it again"
        else:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.name
    assert not any((store / "versions").glob("*"))
    versions.verify(dataset_versions.write(store, source))
    assert _unfinished(store) == []


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\nfrom pelagos_pipelines.preparation import locks\n"
        f"with locks.locked(pathlib.Path({str(tmp_path)!r})): print('held', flush=True)"
    )
    with locks.locked(tmp_path):
        waiting = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        time.sleep(0.5)
        assert waiting.poll() is None
    assert waiting.communicate(timeout=20)[0] == b"held\n"


@pytest.mark.parametrize("part", [pytest.param("/blobs/", id="images"), pytest.param("/versions/", id="manifest")])
def test_a_full_disk_leaves_neither_a_version_nor_parts_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    source, store = dataset_versions.detection(tmp_path / "source"), tmp_path / "store"
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if part in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space is left on the volume"):
        dataset_versions.write(store, source)
    assert not any((store / "versions").iterdir())
    assert _unfinished(store) == []
    monkeypatch.undo()
    versions.verify(dataset_versions.write(store, source))


def test_an_image_that_changes_while_the_version_is_made_stops_it(tmp_path: Path) -> None:
    source, store = dataset_versions.detection(tmp_path / "source"), tmp_path / "store"
    tree = image_sources.tree_of(source)
    inspections = integrity.inspect_tree(tree, store / "inspections.json")
    found = image_sources.read(source)
    image_sources.photo(source / "images" / "3.png", 43, 30, seed=77)
    with pytest.raises(blobs.SourceChangedError, match=r"3\.png changed"), locks.locked(store):
        versions.write(store, tree, Collection(Task.DETECTION, found.classes, found.images), inspections, {})
    assert not any((store / "versions").iterdir())


def test_editing_the_source_in_place_does_not_reach_the_version(tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source")
    version = dataset_versions.write(tmp_path / "store", source)
    for file in (source / "images").iterdir():
        with file.open("r+b") as opened:
            opened.write(b"edited in place")
    versions.verify(versions.read(version.folder))


def _no_manifest(version: versions.Version) -> None:
    (version.folder / "manifest.json").unlink()


def _other_class(version: versions.Version) -> None:
    file = version.folder / "manifest.json"
    file.write_text(file.read_text().replace('"eel"', '"ling"'))


def _moved_box(version: versions.Version) -> None:
    file = version.folder / "annotations.json"
    content: Any = json.loads(file.read_text())
    content["images"][4]["boxes"][0]["x"] += 1
    file.write_text(json.dumps(content))


def _not_json(version: versions.Version) -> None:
    (version.folder / "annotations.json").write_text("{")


def _lost_blob(version: versions.Version) -> None:
    version.blobs["images/3.png"].unlink()


def _cut_blob(version: versions.Version) -> None:
    blob = version.blobs["images/3.png"]
    blob.chmod(0o644)
    os.truncate(blob, 20)


def _endless(version: versions.Version) -> None:
    os.truncate(version.folder / "manifest.json", 3 * 1024**4)  # sparse: takes no space


def _no_end(version: versions.Version) -> None:
    file = version.folder / "annotations.json"
    file.write_text(file.read_text().rpartition("\n],")[0])


DAMAGES = [_endless, _no_end, _no_manifest, _other_class, _moved_box, _not_json, _lost_blob, _cut_blob]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_is_refused_and_made_whole_by_preparing_again(tmp_path: Path, damage: Any) -> None:
    source = dataset_versions.detection(tmp_path / "source")
    version = dataset_versions.write(tmp_path / "store", source)
    damage(version)
    with pytest.raises(RefusedError, match="prepare the dataset again") as caught:
        versions.read(version.folder)
    assert caught.value.failure.reason is Reason.DATASET_NOT_READABLE
    assert dataset_versions.write(tmp_path / "store", source) == version
    versions.verify(versions.read(version.folder))


def test_a_version_whose_annotations_are_in_one_piece_is_the_same(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    file = version.folder / "annotations.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=2))

    assert versions.read(version.folder) == version


def test_a_changed_byte_is_found_before_training_sees_it(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    blob = version.blobs["images/3.png"]
    blob.chmod(0o644)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(RefusedError, match="is damaged"):
        versions.materialise(version.folder, "yolo", tmp_path / "view")


def test_images_that_a_training_has_read_are_not_read_again_for_its_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    versions.verify(version)
    monkeypatch.setattr(verifying, "first_damaged", lambda files: pytest.fail("read again"))
    versions.materialise(version.folder, "yolo", tmp_path / "view")


def test_a_byte_that_changes_after_images_were_read_is_found_although_the_file_has_its_old_date(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    versions.verify(version)
    blob = version.blobs["images/3.png"]
    seen = blob.stat()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    time.sleep(0.02)  # the kernel's clock ticks every few milliseconds
    blob.chmod(0o644)
    blob.write_bytes(content)
    os.utime(blob, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(RefusedError, match="is damaged"):
        versions.materialise(version.folder, "yolo", tmp_path / "view")


def test_an_image_that_is_gone_is_told_before_anything_is_linked(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    version.blobs["images/3.png"].unlink()
    with pytest.raises(RefusedError, match="an image cannot be read"):
        versions.materialise(version.folder, "yolo", tmp_path / "view")
    assert not (tmp_path / "view").exists()


def _written_by_a_stranger(version: versions.Version, **entry: Any) -> Path:
    """The version with altered statistics, recipe and first image, stored under the digest of the altered content."""
    manifest = json.loads((version.folder / "manifest.json").read_bytes())
    del manifest["digest"]
    manifest["recipe"] |= entry.pop("recipe", {})
    manifest |= {name: entry.pop(name) for name in ("statistics",) if name in entry}
    manifest["images"][0] |= entry
    marks = json.loads((version.folder / "annotations.json").read_bytes())
    whole = [orjson.dumps(part, option=orjson.OPT_SORT_KEYS) for part in (manifest, marks)]
    digest = hashlib.sha256(b"[" + b",".join(whole) + b"]").hexdigest()
    (version.folder / "manifest.json").write_bytes(orjson.dumps({**manifest, "digest": f"sha256:{digest}"}))
    return version.folder.rename(version.folder.with_name(digest))


@pytest.mark.parametrize(
    "entry",
    [
        {"tile": {"of": 5, "x": 0, "y": 0}},
        {"tile": {"of": "a.png", "x": -1, "y": 0}},
        {"tile": {"of": "a.png", "x": 0, "y": 1e30}},
        {"tile": {"of": "a.png", "x": "0", "y": 0}},
        {"tile": ["a.png", 0, 0]},
        {"capture": {"depth": -1}},
        {"capture": []},
        {"width": 0},
        {"width": None},
        {"height": "x"},
        {"height": 1e30},
        {"group": ["a"]},
        {"split": "nowhere"},
        {"recipe": {"preprocessing": {"tile": {"size": 128, "overlap": 2048}}}},
        {"statistics": {"mean": [0.5, 0.5, 1e300], "deviation": [0.1, 0.1, 0.1]}},
        {"statistics": {"mean": [0.5, 0.5, 0.5], "deviation": [0.1, 0.1, -0.1]}},
    ],
    ids=str,
)
def test_no_manifest_is_taken_that_no_preparation_writes(entry: dict[str, Any], tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source", 3))

    with pytest.raises(RefusedError) as refused:
        versions.read(_written_by_a_stranger(version, **entry))

    assert refused.value.failure.reason == Reason.DATASET_NOT_READABLE
    assert "not those of a version" in refused.value.failure.message


def test_what_a_stranger_writes_as_a_preparation_does_is_taken(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source", 3))

    found = versions.read(_written_by_a_stranger(version, tile={"of": "a.png", "x": 5, "y": 0}, group="dive"))

    assert found.collection.images[0].part == Part("a.png", 5, 0)
