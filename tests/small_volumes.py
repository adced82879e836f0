"""A real volume that is quickly full, for tests of code that writes files."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A volume of one mebibyte and 40 files, in memory."""
    place = tmp_path / "a volume"
    place.mkdir()
    options = "size=1m,nr_inodes=40"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this account may not mount a volume")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)  # a failed test may still have a file open


def fill(volume: Path) -> None:
    """Fill the volume to the last byte."""
    with (volume / "what others keep there").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
