"""Where the keys of seals are kept, and the error if there is none."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pelagos.engines.folders.keys import FolderKeys, make
from pelagos.ports.authority import NoKeyError
from pelagos.ports.errors import RejectedError

OLD, OLDER, NEW = (bytes([number]) * 32 for number in (1, 2, 3))


def keys_in(folder: Path, **content: bytes) -> FolderKeys:
    folder.mkdir(exist_ok=True)
    for name, key in content.items():
        (folder / name).write_bytes(key)
    return FolderKeys(folder, "Do this.")


def test_current_seals_and_the_others_are_for_reading(tmp_path: Path) -> None:
    assert keys_in(tmp_path / "keys", a=OLD, current=NEW, b=OLDER).read() == (NEW, OLD, OLDER)


def test_a_secret_is_read_as_kubernetes_mounts_it_and_rotates_it(tmp_path: Path) -> None:
    (tmp_path / "..one").mkdir()
    (tmp_path / "..one" / "current").write_bytes(OLD)
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "current").symlink_to("..data/current")
    keys = FolderKeys(tmp_path, "")
    assert keys.read() == (OLD,)

    (tmp_path / "..two").mkdir()
    (tmp_path / "..two" / "current").write_bytes(NEW)
    (tmp_path / "..next").symlink_to("..two")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert keys.read() == (NEW,)


@pytest.mark.parametrize(
    "content", [{}, {"other": OLD}, {"current": b""}, {"current": OLD[:31]}, {"current": b"1" * 5000}]
)
def test_without_a_key_that_is_one_it_is_said_what_to_do(tmp_path: Path, content: dict[str, bytes]) -> None:
    with pytest.raises(NoKeyError, match=r"current .*\. Do this\.$"):
        keys_in(tmp_path / "keys", **content).read()
    with pytest.raises(NoKeyError, match=r"current is missing\), so nothing outside of Kubernetes can be trusted"):
        FolderKeys(tmp_path / "nowhere", "Do this.").read()


def test_a_key_for_reading_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"key .*/old has 3 bytes; 32 to 4096 are allowed"):
        keys_in(tmp_path / "keys", current=NEW, old=b"old").read()


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "authority"
    make(folder)
    key = (folder / "current").read_bytes()
    make(folder)

    assert (folder / "current").read_bytes() == key
    assert len(key) == 32
    assert stat.S_IMODE((folder / "current").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [entry.name for entry in folder.iterdir()] == ["current"]
