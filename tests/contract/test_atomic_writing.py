"""A file that is written atomically is the old one or the new one, whatever fails, and has the intended permissions."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.write_atomically(tmp_path / "file", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space is left on the volume"):
        disk.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_rest_of_a_crash_is_no_obstacle_and_its_mode_is_not_taken_over(tmp_path: Path) -> None:
    left = tmp_path / f".secret.{os.getpid()}.partial"
    left.write_text("half")
    left.chmod(0o644)

    disk.write_atomically(tmp_path / "secret", "whole", mode=disk.PRIVATE)

    assert (tmp_path / "secret").read_text() == "whole"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == disk.PRIVATE
    assert not left.exists()


def test_missing_folders_are_made_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.write_atomically(tmp_path / "run/outcome", "")
    disk.write_atomically(tmp_path / "run/outcome", "ended", parents=True)

    assert (tmp_path / "run/outcome").read_text() == "ended"


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    disk.write_atomically(tmp_path / "secret", "s", mode=disk.PRIVATE)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
