"""On a full disk no half-written file remains, and the error says which volume is full, for which file, and what to do.

The volumes are real: small ones in memory, or a limit on the size of files where none may be mounted.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pelagos_contract import disk
from pelagos_contract.disk import FullError
from small_volumes import small

__all__ = ["small"]

MEBIBYTE = 1024**2


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no file may be larger than a quarter of a mebibyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE // 4, before[1]))
    place = tmp_path / "short"
    place.mkdir()
    yield place
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def checkpoint(path: Path) -> None:
    from pelagos_pipelines.training import checkpoints

    checkpoints.save_atomically({"weights": np.zeros(MEBIBYTE)}, path)


def of_torch(path: Path) -> None:
    """Write as ultralytics' strip_optimizer does: torch reports a full disk like any other failure."""
    import torch

    with disk.written(path):
        torch.save({"weights": torch.zeros(MEBIBYTE)}, path)


def figure(path: Path) -> None:
    from matplotlib import pyplot as plt

    from pelagos_pipelines.evaluation import figures

    drawn, axes = plt.subplots(figsize=(20, 20))
    axes.imshow(np.random.default_rng(1).random((900, 900, 3)))
    figures.save(drawn, path)


def text(path: Path) -> None:
    disk.write_atomically(path, "x" * 2 * MEBIBYTE)


def folder(path: Path) -> None:
    with disk.written(path):
        path.mkdir()
        for number in range(9):
            (path / str(number)).write_bytes(bytes(MEBIBYTE // 3))


WRITERS = [text, checkpoint, of_torch, figure, folder]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_nothing_half_written_stays_on_a_full_volume_which_is_named(small: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(FullError) as caught:
        write(small / "result.png")

    assert caught.value.errno == errno.ENOSPC
    words = disk.explain(caught.value, Path("/elsewhere"))
    assert words.startswith(f"no space is left on the volume {small} to write {small}/")
    assert "of 1.0 MB are free" in words
    assert words.endswith("free space on the volume, or make it larger")
    assert list(small.iterdir()) == []


def test_what_was_there_before_stays(small: Path) -> None:
    disk.write_atomically(small / "result", "old")

    with pytest.raises(FullError):
        text(small / "result")

    assert [path.name for path in small.iterdir()] == ["result"]
    assert (small / "result").read_text() == "old"


def test_a_volume_without_room_for_one_more_file_says_so(small: Path) -> None:
    def fill() -> None:
        for number in range(100):
            (small / str(number)).touch()

    with pytest.raises(OSError, match="No space left") as caught:
        fill()

    assert "it already has all of the 40 files that it can hold" in disk.explain(caught.value, small)


def test_a_file_that_grows_above_its_ceiling_is_told_with_the_ceiling(short: Path) -> None:
    with pytest.raises(FullError) as caught:
        text(short / "result")

    assert "ulimit -f sets to 262.1 kB" in str(caught.value)
    assert list(short.iterdir()) == []


def failing(path: Path, error: Exception) -> None:
    with disk.written(path):
        path.touch()
        raise error


def test_a_quota_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "result"
    with pytest.raises(FullError) as caught:
        failing(path, OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))

    assert f"the disk quota of user {os.geteuid()} on the volume" in str(caught.value)
    assert f"{path} cannot be written" in str(caught.value)
    assert not path.exists()


def test_what_is_needed_is_said_where_it_is_known(tmp_path: Path) -> None:
    assert "3.2 GB are needed" in str(FullError(errno.ENOSPC, tmp_path, 3_200_000_000))


def test_another_error_is_passed_on_and_leaves_no_part_either(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="odd"):
        failing(tmp_path / "result", RuntimeError("odd"))

    assert not (tmp_path / "result").exists()


def test_a_copy_names_its_target(small: Path, tmp_path: Path) -> None:
    import shutil

    (tmp_path / "large").write_bytes(bytes(2 * MEBIBYTE))

    with pytest.raises(FullError) as caught, disk.written(small / "copy") as path:
        shutil.copyfile(tmp_path / "large", path)

    assert f"to write {path}:" in str(caught.value)
