"""A data volume in a folder: links, times, odd names, and sources that are too large."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.folders import label_digests
from pelagos.engines.folders.volumes import FolderVolumes
from pelagos.ports.errors import RejectedError
from pelagos.ports.volumes import Fingerprint
from pelagos_contract import beneath

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data/samples/a").mkdir(parents=True)
    (tmp_path / "data/samples/a/1.png").write_text("image")
    return tmp_path / "data"


async def look(root: Path, path: str = "samples") -> Fingerprint:
    fingerprint = await FolderVolumes(root).fingerprint(path)
    assert fingerprint is not None
    return fingerprint


async def test_a_file_rewritten_with_the_same_size_is_noticed_by_its_time(root: Path) -> None:
    before = await look(root)
    os.utime(root / "samples/a/1.png", ns=(1, 1))

    assert await look(root) != before


@pytest.fixture
def label(root: Path) -> Path:
    """A label file that has not changed for a long time."""
    file = root / "samples/a/1.txt"
    file.write_text("0 0.5 0.5 0.1 0.1")
    return file


def rewrite(file: Path, content: str) -> None:
    """Rewrite with the same size and time, as within one tick of a file system that counts in seconds."""
    times = file.stat()
    assert len(content) == times.st_size
    file.write_text(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


async def test_a_label_rewritten_with_the_same_size_and_time_is_noticed_by_its_content(root: Path, label: Path) -> None:
    volumes = FolderVolumes(root)
    before = await volumes.fingerprint("samples")

    rewrite(label, "1 0.5 0.5 0.1 0.1")

    assert await volumes.fingerprint("samples") != before
    rewrite(label, "0 0.5 0.5 0.1 0.1")
    assert await volumes.fingerprint("samples") == before
    assert await look(root) == before


async def test_a_label_that_cannot_have_changed_is_read_once(
    root: Path, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = beneath.read_in

    def noted(folder: int, name: str, path: str, limit: int) -> bytes:
        read.append(path)
        return real(folder, name, path, limit)

    monkeypatch.setattr(beneath, "read_in", noted)
    volumes = FolderVolumes(root)
    first = [await volumes.fingerprint("samples") for _ in range(2)]
    assert read == ["a/1.txt", "a/1.txt"]  # it was written only just now

    monkeypatch.setattr(label_digests, "SETTLED", -1)
    settled = [await volumes.fingerprint("samples") for _ in range(3)]
    assert read == ["a/1.txt"] * 3

    rewrite(label, "1 0.5 0.5 0.1 0.1")
    assert await volumes.fingerprint("samples") not in first
    assert {*first, *settled} == {first[0]}


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 0), ("MAX_BYTES", 16), ("MAX_TOTAL", 16)])
async def test_a_label_beyond_the_limits_is_known_by_size_and_time(
    root: Path, label: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(label_digests, limit, value)
    before = await look(root)

    rewrite(label, "1 0.5 0.5 0.1 0.1")

    assert await look(root) == before


async def test_what_is_remembered_of_labels_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_digests, "SETTLED", -1)
    monkeypatch.setattr(label_digests, "REMEMBERED", 3)
    for number in range(9):
        (root / f"samples/{number}.txt").write_text(str(number))
    volumes = FolderVolumes(root)

    found = [await volumes.fingerprint("samples") for _ in range(3)]

    assert len(set(found)) == 1
    assert len(volumes._digests._known) == 3


async def test_a_pipe_named_like_a_label_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "samples/a/labels.txt")

    assert (await look(root)).files == 2


async def test_a_copy_elsewhere_with_the_same_times_has_the_same_digest(root: Path) -> None:
    (root / "copy/a").mkdir(parents=True)
    (root / "copy/a/1.png").write_text("image")
    times = (root / "samples/a/1.png").stat()
    os.utime(root / "copy/a/1.png", ns=(times.st_atime_ns, times.st_mtime_ns))

    assert await look(root, "copy") == await look(root)


@pytest.mark.parametrize("inside", ["samples/link", "samples/a/link"])
async def test_a_link_out_of_the_volume_is_rejected(root: Path, tmp_path: Path, inside: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (root / inside).symlink_to(tmp_path / "secret")

    with pytest.raises(RejectedError, match="out of the data volume"):
        await look(root)


async def test_a_source_that_is_itself_a_link_out_of_the_volume_is_rejected(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RejectedError, match="out of the data volume"):
        await look(root, "link")


async def test_links_within_the_volume_are_noted_and_circles_end(root: Path) -> None:
    before = await look(root)
    (root / "samples/a/circle").symlink_to(root / "samples")
    (root / "samples/a/dangling").symlink_to("absent.png")
    (root / "samples/a/2.png").symlink_to("1.png")
    linked = await look(root)
    (root / "samples/a/1.png").write_text("a longer image")

    assert linked.files == before.files + 3
    assert (await look(root)).digest not in {before.digest, linked.digest}


async def test_odd_file_names_are_looked_at_like_others(root: Path) -> None:
    (root / "samples/a/line\nbreak.png").touch()
    (root / os.fsdecode(b"samples/a/latin-\xe9.png")).touch()

    assert (await look(root)).files == 3


async def test_a_source_with_too_many_files_is_rejected_with_the_limit(root: Path) -> None:
    for number in range(5):
        (root / f"samples/{number}").touch()

    with pytest.raises(RejectedError, match="more than 5 files"):
        await FolderVolumes(root, max_files=5).fingerprint("samples")


async def test_a_volume_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert await FolderVolumes(tmp_path / "absent").fingerprint("samples") is None
