"""A data volume that an attacker changes while it is read: swapped links, pipes, missing permissions, unlimited depth."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import image_sources
from image_sources import photo, text
from pelagos_contract import beneath
from pelagos_contract.beneath import ChangedError, Folder
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.sources import VolumeSource
from pelagos_contract.tasks import Task
from pelagos_contract.training import Weights
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Asked, Box, SourceFiles
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.sources import volume
from pelagos_pipelines.training import checkpoints

CANARY = "root:x:0:0:canary"
NOBODY = 65534


def collect(root: Path, path: str = "data") -> SourceFiles:
    return volume.collect(VolumeSource(path=path), root)


def refusal(root: Path, path: str = "data") -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        collect(root, path)
    return caught.value


@contextmanager
def swapping(file: Path, other: Path, *, through: Path | None = None) -> Iterator[None]:
    """Swap ``file`` (or its parent ``through``) with a link to ``other`` and back, as fast as a thread can."""
    target, done = through or file, threading.Event()
    aside = target.with_name(f".{target.name}.aside")

    def swap() -> None:
        for turn in itertools.count():
            if done.is_set():
                return
            target.rename(aside)
            target.symlink_to(other)
            target.unlink()
            aside.rename(target)
            time.sleep(0.01 if turn % 50 == 0 else 0)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def repeatedly(look: Callable[[], object]) -> list[str]:
    """Call ``look`` for at least 1 s, until it has both returned and raised, or for 30 s. Returns the messages of its errors."""
    said: list[str] = []
    returned = 0
    begun = time.monotonic()
    while time.monotonic() < begun + 1 or (not (said and returned) and time.monotonic() < begun + 30):
        try:
            look()
            returned += 1
        except (RefusedError, ChangedError) as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize("swapped", ["data/labels/a.txt", "data/labels"])
def test_a_label_swapped_for_a_link_is_never_read(tmp_path: Path, swapped: str) -> None:
    text(tmp_path / "data/data.yaml", "names: [cod]")
    photo(tmp_path / "data/images/a.png")
    text(tmp_path / "data/labels/a.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "secret/a.txt", f"0 0.1 0.1 0.1 0.1\n{CANARY}")
    tree = collect(tmp_path)
    other = tmp_path / "secret" if swapped.endswith("labels") else tmp_path / "secret/a.txt"
    found: set[Box] = set()

    def look() -> None:
        for one in (tree, collect(tmp_path)):
            read = registry.choose("Yolo", one, Task.DETECTION).read(one, lambda path: (40, 30), Asked(Task.DETECTION))
            found.update(box for image in read.images for box in image.boxes)

    with swapping(tmp_path / "data/labels/a.txt", other, through=tmp_path / swapped):
        said = repeatedly(look)

    assert found == {Box("cod", 10.0, 7.5, 20.0, 15.0)}
    assert said
    assert not any(CANARY in words or "canary" in words for words in said)


@pytest.mark.parametrize("name", ["data.yaml", "labels/a.txt"])
def test_a_file_that_is_a_link_after_listing_is_refused_by_name(tmp_path: Path, name: str) -> None:
    text(tmp_path / "data/data.yaml", "names: [cod]")
    photo(tmp_path / "data/images/a.png")
    text(tmp_path / "data/labels/a.txt", "0 0.5 0.5 0.5 0.5")
    tree = collect(tmp_path)
    (tmp_path / "data" / name).unlink()
    (tmp_path / "data" / name).symlink_to(text(tmp_path / "secret", CANARY))

    with pytest.raises(RefusedError, match=f"{name} was replaced by a link") as caught:
        registry.choose("Yolo", tree, Task.DETECTION).read(tree, lambda path: (40, 30), Asked(Task.DETECTION))

    assert caught.value.failure.reason is Reason.FORMAT_INVALID


def test_an_image_swapped_for_a_link_is_neither_inspected_nor_copied(tmp_path: Path) -> None:
    genuine = photo(tmp_path / "data/cod/a.png", seed=1).read_bytes()
    secret = photo(tmp_path / "secret.png", seed=2)
    tree = collect(tmp_path)
    digests: set[str] = set()

    def look() -> None:
        with (tmp_path / "copy.png").open("wb") as copy:
            digests.add(tree.pour("cod/a.png", copy.fileno()))
        digests.add(integrity.inspect_tree(tree, tmp_path / "memory.json")["cod/a.png"].sha256)

    with swapping(tmp_path / "data/cod/a.png", secret):
        assert repeatedly(look)

    assert digests == {hashlib.sha256(genuine).hexdigest()}


def test_a_checkpoint_swapped_for_a_link_is_not_copied(tmp_path: Path) -> None:
    text(tmp_path / "volume/mine.pt", "weights")
    secret = text(tmp_path / "secret", CANARY)
    taken = tmp_path / "taken.pt"
    copied: set[str] = set()

    def look() -> None:
        copied.add(checkpoints.copy_checkpoint(Weights(path="mine.pt"), tmp_path / "volume", taken).read_text())

    with swapping(tmp_path / "volume/mine.pt", secret):
        said = repeatedly(look)

    assert copied == {"weights"}
    assert said


def test_pipes_and_sockets_are_left_out_with_their_number_and_names(tmp_path: Path) -> None:
    photo(tmp_path / "data/cod/1.png")
    photo(tmp_path / "data/eel/1.png")
    os.mkfifo(tmp_path / "data/cod/2.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "data/s.png"))
        tree = collect(tmp_path)

    assert tree.images == ("cod/1.png", "eel/1.png")
    assert tree.warnings == ("2 pipes, sockets or devices are left out: cod/2.png, s.png",)
    assert {one.path: one.reason.value for one in tree.excluded} == {"cod/2.png": "NotAFile", "s.png": "NotAFile"}


def test_a_file_that_becomes_a_pipe_is_refused_and_nobody_waits_for_a_writer(tmp_path: Path) -> None:
    photo(tmp_path / "data/cod/1.png")
    tree = collect(tmp_path)
    (tmp_path / "data/cod/1.png").unlink()
    os.mkfifo(tmp_path / "data/cod/1.png")

    with pytest.raises(RefusedError, match=r"cod/1\.png was replaced by a link or something other than a regular file"):
        tree.read("cod/1.png", 1000)


def test_a_file_that_grows_while_it_is_read_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = text(tmp_path / "a.txt", "short")
    read = os.read

    def growing(descriptor: int, size: int) -> bytes:
        path.write_text("much longer", encoding="utf-8")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", growing)

    with pytest.raises(ChangedError, match="changed while it was read"):
        Folder(tmp_path).read("a.txt", 1000)


def test_an_image_that_claims_to_have_petabytes_is_named_at_once(tmp_path: Path) -> None:
    photo(tmp_path / "data/cod/1.png")
    os.truncate(tmp_path / "data/cod/1.png", 15 * 1024**4)

    found = integrity.inspect_tree(collect(tmp_path), tmp_path / "memory.json")

    assert "at most" in (found["cod/1.png"].problem or "")


@pytest.mark.parametrize("depth", [beneath.MAX_DEPTH + 1, 3_000])
def test_folders_without_end_are_refused_by_name(tmp_path: Path, depth: int) -> None:
    photo(tmp_path / "data/cod/1.png")
    with deep(tmp_path / "data", depth):
        refused = refusal(tmp_path)

    assert refused.failure.reason is Reason.FORMAT_INVALID
    assert f"1 folders hold folders more than {beneath.MAX_DEPTH} deep: d/d/d" in refused.failure.message


def test_a_path_longer_than_the_system_takes_is_read(tmp_path: Path) -> None:
    names = ["n" * 250] * 30
    with deep(tmp_path / "data", 30, name="n" * 250) as last:
        os.mkdir("cod", dir_fd=last)
        os.mkdir("eel", dir_fd=last)
        for name in ("cod/1.png", "eel/2.png"):
            photo(tmp_path / "one.png")
            copy = os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=last)
            os.write(copy, (tmp_path / "one.png").read_bytes())
            os.close(copy)
        tree = collect(tmp_path)
        found = integrity.inspect_tree(tree, tmp_path / "memory.json")

    assert tree.files == ("/".join([*names, "cod/1.png"]), "/".join([*names, "eel/2.png"]))
    assert [inspection.problem for inspection in found.values()] == [None, None]


@contextmanager
def deep(folder: Path, depth: int, name: str = "d") -> Iterator[int]:
    """Nested folders, deeper than a path can be. Yields the descriptor of the innermost."""
    current = os.open(folder, os.O_RDONLY) if folder.is_dir() else -1
    if current < 0:
        folder.mkdir(parents=True)
        current = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=current)
        following = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    try:
        yield current
        # pytest deletes recursively by path, which fails here. Remove the chain from its innermost folder.
        for left in range(depth):
            above = os.open("..", os.O_RDONLY, dir_fd=current)
            os.close(current)
            current = above
            (os.rmdir if left else shutil.rmtree)(name, dir_fd=current)
    finally:
        os.close(current)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as another account, since root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other accounts can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="pelagos-"))
    folder.chmod(0o755)
    photo(folder / "data/cod/1.png")
    photo(folder / "data/eel/1.png")
    try:
        yield folder
    finally:
        for parent, _, _ in os.walk(folder):
            Path(parent).chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize("closed", ["data/cod", "data/cod/1.png", "data"])
def test_what_our_account_may_not_read_is_refused_by_name(public: Path, closed: str) -> None:
    (public / closed).chmod(0)
    with as_nobody():
        refused = refusal(public)

    assert refused.failure.reason is Reason.SOURCE_NOT_READABLE
    assert closed.removeprefix("data/") in refused.failure.message
    assert "may not be read by the account" in refused.failure.message


def test_a_right_taken_away_after_listing_is_a_refusal(public: Path) -> None:
    tree = collect(public)
    (public / "data/cod/1.png").chmod(0)
    with as_nobody(), pytest.raises(RefusedError) as caught:
        integrity.inspect_tree(tree, public / "memory.json")

    assert caught.value.failure.reason is Reason.SOURCE_NOT_READABLE


def test_links_in_a_circle_are_refused_by_name(tmp_path: Path) -> None:
    photo(tmp_path / "data/cod/1.png")
    (tmp_path / "data/a").symlink_to("b")
    (tmp_path / "data/b").symlink_to("a")

    assert "not followed: a, b" in refusal(tmp_path).failure.message


def test_a_source_that_is_a_circle_of_links_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("other")
    (tmp_path / "other").symlink_to("data")

    assert refusal(tmp_path).failure.reason is Reason.SOURCE_NOT_FOUND


@pytest.mark.parametrize("name", ["line\nbreak.png", "e\u0301.png", "\x1b[31m.png", "n" * 250 + ".png"])
def test_odd_names_are_read_like_others(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "data/cod" / name)
    photo(tmp_path / "data/eel/1.png")

    found = image_sources.read(tmp_path / "data", Task.CLASSIFICATION)

    assert f"cod/{name}" in {image.path for image in found.images}


def test_more_files_than_a_source_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        photo(tmp_path / f"data/{number}.png")
    monkeypatch.setattr(volume, "MAX_FILES", 5)

    assert "more than 5 files and folders, allowed are 5" in refusal(tmp_path).failure.message


def test_what_is_hidden_is_named_whatever_it_is_and_refuses_nothing(public: Path) -> None:
    """Links out of the source, names that are not text, folders that are closed or too deep: none of them is opened."""
    hidden = public / "data" / ".trash"
    (hidden / "closed").mkdir(parents=True)
    (hidden / "out.png").symlink_to("/etc/passwd")
    os.mkfifo(hidden / "pipe")
    Path(os.fsdecode(os.fsencode(hidden) + b"/\xff.png")).touch()
    deep = hidden.joinpath(*["d"] * 70)
    deep.mkdir(parents=True)
    (hidden / "closed").chmod(0)

    try:
        found = {one.path: one.reason.value for one in collect(public, "data").excluded}
    finally:
        (hidden / "closed").chmod(0o755)

    assert set(found.values()) == {"Hidden"}
    shown = {".trash/out.png", ".trash/pipe", ".trash/\\xff.png"} | ({".trash/closed"} if os.geteuid() else set())
    assert shown <= found.keys()
    assert any(path.startswith(".trash/d/d/") for path in found)
