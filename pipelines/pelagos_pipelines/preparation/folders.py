"""Folders that appear whole or not at all, and blobs named by their content. Used by versions; knows nothing of images."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pelagos_pipelines.contract import write_atomically

CHUNK = 1024 * 1024
THREADS = 8
"""Copies wait for the disk to confirm, not for the processor; confirmations that are asked for together come together."""
READ_ONLY = 0o444
"""Views are hard links to blobs: a tool that edits an image in place must not be able to change the version."""

MARK = ".pelagos-view"
FINISHED = " finished"


class ChangedError(Exception):
    """A file is not, or no longer, what its digest or size says."""


@dataclass(frozen=True)
class Blob:
    """Bytes to keep: ``size`` of them in ``file``, with the digest ``sha256``."""

    file: Path
    sha256: str
    size: int


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """One writer at a time, so that what another one left is known to be dead. The lock ends with its process."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers(parent: Path, blobs: Path) -> None:
    """Remove what attempts that were killed left of folders in ``parent`` and of blobs; call it under the lock."""
    for folder in parent.glob(".*.partial"):
        shutil.rmtree(folder)
    for file in blobs.glob("*/.*.partial"):
        file.unlink()


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files, replacing one that is damaged; a reader sees all of them or none."""
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True)
    for name, content in files.items():
        with (partial / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(partial)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    _sync(folder.parent)


def place(blobs: Path, sha256: str) -> Path:
    """Where a blob lies."""
    return blobs / sha256[:2] / sha256[2:]


def keep(blobs: Path, wanted: Sequence[Blob]) -> None:
    """Copy what is not there yet, durably.

    Raises:
        ChangedError: a file has other bytes than its digest says.
    """
    missing = {blob.sha256: blob for blob in wanted if not _is_kept(place(blobs, blob.sha256), blob.size)}
    folders = {place(blobs, sha256).parent for sha256 in missing}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda blob: _copy(blob, place(blobs, blob.sha256)), missing.values()))
    for folder in sorted(folders):
        _sync(folder)
    if folders:
        _sync(blobs)


def check(blob: Blob, *, content: bool) -> None:
    """Compare size and, if wanted, content with what is expected.

    Raises:
        ChangedError: they differ.
        OSError: the file is missing or cannot be read.
    """
    size = blob.file.stat().st_size
    if size != blob.size:
        raise ChangedError(f"{blob.file} has {size} bytes instead of {blob.size}")
    if content:
        with blob.file.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.sha256:
            raise ChangedError(f"{blob.file} has the sha256 {found} instead of {blob.sha256}")


def begin(target: Path, content: str) -> bool:
    """Make ``target`` an empty folder that is to hold ``content``; False when it holds just that, finished.

    What an unfinished attempt left, or a view of something else, is removed.

    Raises:
        FileExistsError: it holds files that were not begun here.
    """
    mark = target / MARK
    if mark.is_file():
        if mark.read_text(encoding="utf-8") == content + FINISHED:
            return False
        shutil.rmtree(target)
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} holds something that is no view of a dataset version; name another folder")
    target.mkdir(parents=True, exist_ok=True)
    mark.write_text(content, encoding="utf-8")
    return True


def finish(target: Path) -> None:
    """Say that ``target`` holds all of what was begun."""
    mark = target / MARK
    write_atomically(mark, mark.read_text(encoding="utf-8") + FINISHED)


def _is_kept(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _copy(blob: Blob, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        if _copy_bytes(blob.file, partial) != blob.sha256:
            raise ChangedError(
                f"{blob.file} changed while it was prepared; leave it alone until the preparation is done"
            )
        partial.replace(target)
    finally:  # a full disk must not stay full because of what did not fit
        partial.unlink(missing_ok=True)


def _copy_bytes(file: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source, target.open("xb") as copy:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fchmod(copy.fileno(), READ_ONLY)
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Make the names in a folder durable: syncing a file does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
