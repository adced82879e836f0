"""Removing versions from a store in a folder: what remains is whole, even if others read, prepare or die at the same time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dataset_versions
import image_sources
from pelagos_contract.collection import CollectionResult
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.preparation import collecting, locks, versions
from pelagos_pipelines.steps.prepare import prepare

Made = list[versions.Version]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def made(tmp_path: Path, store: Path) -> Made:
    """Three versions in one store. Each lacks one of the old images of the one before, and has one more new image."""
    source = dataset_versions.detection(tmp_path / "source", images=4)
    found = [dataset_versions.write(store, source)]
    for number in (1, 2):
        (source / f"images/{number}.png").unlink()
        (source / f"labels/{number}.txt").unlink()
        image_sources.photo(source / f"images/new{number}.png", 60, 30, seed=number)
        image_sources.text(source / f"labels/new{number}.txt", "0 0.5 0.5 0.25 0.1")
        found.append(dataset_versions.write(store, source))
    return found


def named(*some: versions.Version) -> list[str]:
    return [f"sha256:{version.digest}" for version in some]


def blobs(*some: versions.Version) -> set[Path]:
    return {blob for version in some for blob in version.blobs.values()}


def files(store: Path) -> set[Path]:
    return {path for path in (store / "blobs").rglob("*") if path.is_file()}


def collect(store: Path, remove: list[str]) -> CollectionResult:
    """Remove versions through the step."""
    prepare(json.dumps({"remove": remove}), "", str(store), str(store.parent / "report"))
    return CollectionResult.model_validate_json((store.parent / "report/result.json").read_bytes())


def require_whole(store: Path) -> set[str]:
    """Verify every version in the store, pixels included. Returns the digests of those that exist."""
    there = {path.name for path in (store / "versions").iterdir() if not path.name.startswith(".")}
    for name in there:
        versions.verify(versions.read(store / "versions" / name))
    return there


def test_a_version_goes_with_the_images_that_no_other_has(store: Path, made: Made) -> None:
    first, second, third = made
    shared = blobs(first) & (blobs(second) | blobs(third))
    alone = blobs(first) - shared
    size = sum(blob.stat().st_size for blob in alone) + sum(file.stat().st_size for file in first.folder.iterdir())

    found = collect(store, named(first))

    assert (found.removed, found.images, found.freed_bytes) == (named(first), len(alone), size)
    assert (found.kept_versions, found.kept_images) == (2, len(blobs(second, third)))
    assert found.kept_bytes == sum(blob.stat().st_size for blob in blobs(second, third))
    assert require_whole(store) == {second.digest, third.digest}
    assert files(store) == blobs(second, third)
    assert {path.name for path in (store / "versions").iterdir()} == {second.digest, third.digest}


def test_what_lies_beside_the_files_of_a_version_goes_with_it(store: Path, made: Made) -> None:
    first, *_ = made
    size = collecting.from_folder(store, [f"sha256:{'9' * 64}"]).freed_bytes
    (first.folder / "report").mkdir()
    (first.folder / "report/report.html").write_bytes(bytes(100_000))

    assert collect(store, named(first)).freed_bytes > size + 100_000
    assert len(require_whole(store)) == 2


def test_images_of_a_version_that_no_list_knows_are_kept(store: Path, made: Made) -> None:
    """Another Dataset may have put it into the same store: what is not named stays, whatever created it."""
    first, second, third = made

    collect(store, named(third))

    assert require_whole(store) == {first.digest, second.digest}


def test_a_version_that_is_gone_and_images_that_nobody_names_are_no_error(store: Path, made: Made) -> None:
    first, *_ = made
    (store / "blobs/ab").mkdir(exist_ok=True)
    (store / "blobs/ab" / ("0" * 62)).write_bytes(b"of a preparation that was killed")
    (store / "blobs/ab/notes.txt").write_text("not ours")

    found = collect(store, [f"sha256:{'9' * 64}"])

    assert found.images == 1
    assert found.kept_versions == 3
    assert (store / "blobs/ab/notes.txt").exists()
    assert first.digest in require_whole(store)


def test_what_a_training_has_linked_stays_and_is_not_counted_as_freed(store: Path, made: Made, tmp_path: Path) -> None:
    first, *_ = made
    versions.materialise(first.folder, "yolo", tmp_path / "view")
    before = {path: path.read_bytes() for path in (tmp_path / "view").rglob("*.png")}

    found = collect(store, named(first))

    assert found.images > 0
    assert found.freed_bytes < 5000  # the version's own files
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("damage", ["{", '{"digest": "sha256:0"}', '{"digest": 1, "images": [{}]}', ""])
def test_nothing_is_removed_while_a_version_that_stays_cannot_be_read(
    store: Path, made: Made, damage: str, tmp_path: Path
) -> None:
    first, second, _ = made
    before = files(store)
    (second.folder / "manifest.json").write_text(damage)

    with pytest.raises(RefusedError, match="nothing was removed") as caught:
        collect(store, named(first))

    assert caught.value.failure.reason is Reason.DATASET_NOT_READABLE
    assert second.digest in caught.value.failure.message
    assert first.folder.exists()
    assert files(store) == before
    assert json.loads((tmp_path / "report/failure.json").read_text())["reason"] == "DatasetNotReadable"


@pytest.mark.parametrize("asked", [["sha256:../../x"], [], ["sha256:" + "a" * 63], "all", [1]])
def test_only_versions_can_be_asked_for(store: Path, made: Made, asked: object) -> None:
    with pytest.raises(RefusedError) as caught:
        prepare(json.dumps({"remove": asked}), "", str(store), str(store.parent / "report"))

    assert caught.value.failure.reason is Reason.REQUEST_NOT_UNDERSTOOD
    assert len(require_whole(store)) == 3


def test_a_second_start_finds_the_answer_of_the_first(store: Path, made: Made) -> None:
    first, *_ = made

    assert collect(store, named(first)) == collect(store, named(first))


# --- removals that are killed


def removal_killed_after(calls: int, store: Path, remove: list[str]) -> int:
    """Remove versions in a forked process that is killed at its call ``calls`` to the file system. Returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = calls

    def deadly(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return call

    for name in ("unlink", "rmdir", "rename", "fsync"):
        setattr(os, name, deadly(getattr(os, name)))
    try:
        with locks.locked(store):
            collecting.from_folder(store, remove)
    finally:
        os._exit(0)


def test_whoever_is_killed_at_any_moment_leaves_a_whole_store(store: Path, made: Made, tmp_path: Path) -> None:
    first, second, third = made
    remove = named(first, second)
    for deaths in range(100):
        copy = tmp_path / "copy"
        shutil.copytree(store, copy)
        ended = removal_killed_after(deaths, copy, remove)
        assert third.digest in require_whole(copy)
        with locks.locked(copy):
            collecting.from_folder(copy, remove)
        assert require_whole(copy) == {third.digest}
        assert len(files(copy)) == len(blobs(third))
        assert [path.name for path in (copy / "versions").iterdir()] == [third.digest]
        shutil.rmtree(copy)
        if ended == 0:
            break
        assert os.WTERMSIG(ended) == signal.SIGKILL
    assert deaths > 10  # the name and the files of each version, and images, all take calls


# --- readers and preparations at the same time


def test_readers_see_a_whole_version_or_none(store: Path, made: Made, tmp_path: Path) -> None:
    """A finished view has all of its images, whenever the removal happened, and the removal completes."""
    first, _, third = made
    outcomes: list[str] = []
    stop = threading.Event()

    def read(number: int) -> None:
        while not stop.is_set():
            target = tmp_path / f"view-{number}-{len(outcomes)}-{time.monotonic_ns()}"
            try:
                versions.materialise(first.folder, "yolo", target)
            except RefusedError as error:
                outcomes.append(error.failure.reason.value)
                return
            assert len(list(target.rglob("*.png"))) == len(first.collection.images)
            outcomes.append("whole")

    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    while outcomes.count("whole") < 3:
        time.sleep(0.01)
    collect(store, named(first))
    stop.set()
    for reader in readers:
        reader.join()

    assert {*outcomes} <= {"whole", "DatasetNotReadable"}
    assert not first.folder.exists()
    assert third.digest in require_whole(store)


def test_a_removal_waits_for_readers_and_gives_up_without_having_removed_anything(
    store: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = made
    monkeypatch.setattr(locks, "PATIENCE", 0.2)

    with locks.read_below(first.folder), pytest.raises(locks.BusyError, match="are being read"):
        collect(store, named(first))

    assert len(require_whole(store)) == 3


def test_readers_that_may_not_write_to_the_store_can_read(made: Made, store: Path) -> None:
    (store / locks.READERS).unlink(missing_ok=True)
    (store / locks.READERS).symlink_to("/nowhere/at/all")

    with locks.read_below(made[0].folder):
        pass


@pytest.fixture
def preparing(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that prepares the first version's content over and over, and prints a dot each time."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import dataset_versions\n"
        "while True: dataset_versions.write(Path(sys.argv[2]), Path(sys.argv[3])); print('.', flush=True)\n"
    )
    again = dataset_versions.detection(tmp_path / "again", images=4)
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", program, tests, str(tmp_path / "store"), str(again)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_version_that_is_made_while_it_is_removed_is_whole_or_gone(
    store: Path, made: Made, preparing: subprocess.Popen[bytes]
) -> None:
    """When the preparation looks, its images may be gone; when they would be removed, it may need them."""
    assert preparing.stdout is not None
    first = made[0]
    for _ in range(10):
        preparing.stdout.readline()
        with locks.locked(store):
            collecting.from_folder(store, named(first))
            assert first.digest not in require_whole(store)
        preparing.stdout.readline()
        preparing.stdout.readline()  # this preparation began after the removal
        with locks.locked(store):
            assert first.digest in require_whole(store)
