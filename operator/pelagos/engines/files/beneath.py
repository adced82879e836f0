"""Files below a folder that others may write to, opened step by step from its descriptor and never through a link.

Called by the engines that look at the data volume and at the store in folders of this machine. The data plane has the same
for what it reads; the two share no code.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_DEPTH = 64
"""Folders below one another; the data plane refuses deeper ones, too."""
STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class LinkError(Exception):
    """A link stands on the way, or what is there is no regular file."""


class FileInsteadError(Exception):
    """A file stands where a folder should be, so that nothing can be below it."""


class TooLargeError(Exception):
    """The file has more bytes than are read."""


@contextlib.contextmanager
def parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that holds the last part of ``path``, below the trusted ``root``, and that part.

    Raises:
        LinkError: a link stands where a folder should be.
        FileInsteadError: likewise a file.
        OSError: it is not there, or may not be entered.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            following = _step(current, part, path)
            os.close(current)
            current = following
        yield current, parts[-1]
    finally:
        os.close(current)


@contextlib.contextmanager
def made_parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """Likewise; folders that are missing on the way are made, for this account alone."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for depth in range(1, len(parts)):
        with parent(root, "/".join(parts[:depth])) as (folder, name), contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
    with parent(root, path) as found:
        yield found


def names(root: Path, path: str) -> list[str]:
    """Names in a folder below ``root``. Raises as ``parent`` does."""
    with parent(root, path) as (above, name):
        step = _step(above, name, path)
    try:
        folder = os.open(".", FOLDER, dir_fd=step)
    finally:
        os.close(step)
    try:
        return _entries(folder)
    finally:
        os.close(folder)


def read(root: Path, path: str, limit: int) -> bytes:
    """The content of a regular file below ``root``; a pipe is not waited for.

    Raises:
        LinkError: see parent.
        TooLargeError: it has more than ``limit`` bytes.
        OSError: it is not there, or may not be read.
    """
    with parent(root, path) as (folder, name):
        return read_in(folder, name, path, limit)


def read_in(folder: int, name: str, path: str, limit: int) -> bytes:
    """Likewise of the file ``name`` in the open ``folder``, of which people speak as ``path``."""
    with _telling_links(path):
        _require_file(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
        descriptor = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        _require_file(os.fstat(descriptor), path)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(path)
    return content


def seen(root: Path, path: str) -> os.stat_result:
    """What stands at ``path`` itself, be it a link. Raises as ``parent`` does."""
    with parent(root, path) as (folder, name):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)


def latest_change(root: Path, path: str) -> float:
    """When what stands at ``path``, or anything below it, was written last (Unix time). Raises as ``parent`` does."""
    latest = seen(root, path).st_mtime
    waiting = [path]
    while waiting:
        current = waiting.pop()
        for name in names(root, current):
            below = f"{current}/{name}"
            with contextlib.suppress(FileNotFoundError):
                found = seen(root, below)
                latest = max(latest, found.st_mtime)
                if stat.S_ISDIR(found.st_mode) and below.count("/") - path.count("/") <= MAX_DEPTH:
                    waiting.append(below)
    return latest


def remove(root: int, name: str) -> None:
    """Remove what stands at ``name`` in the open folder ``root``, however deep it is; what cannot be removed stays.

    Folders are moved up before they are emptied, so that neither a path nor our own stack can become too long.
    """
    waiting, moved = [name], 0
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(os.stat(current, dir_fd=root, follow_symlinks=False).st_mode):
                os.unlink(current, dir_fd=root)
                continue
            folder = _writable(root, current)
            try:
                for entry in _entries(folder):
                    with contextlib.suppress(OSError):
                        if stat.S_ISDIR(os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode):
                            os.close(_writable(folder, entry))
                            moved += 1
                            os.rename(entry, f"{name}.{moved}", src_dir_fd=folder, dst_dir_fd=root)
                            waiting.append(f"{name}.{moved}")
                        else:
                            os.unlink(entry, dir_fd=folder)
            finally:
                os.close(folder)
            os.rmdir(current, dir_fd=root)


def _step(folder: int, name: str, path: str) -> int:
    try:
        return os.open(name, STEP, dir_fd=folder)
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        raise (LinkError if is_link else FileInsteadError)(path) from error


def _writable(parent: int, name: str) -> int:
    """A folder opened for reading, after its protection was taken away; a pipeline may have protected what it wrote."""
    step = os.open(name, STEP, dir_fd=parent)
    try:
        with contextlib.suppress(OSError):
            os.chmod(f"/proc/self/fd/{step}", 0o700)  # noqa: PTH101 - the only way to a descriptor of this kind
        return os.open(".", FOLDER, dir_fd=step)
    finally:
        os.close(step)


def _entries(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


@contextlib.contextmanager
def _telling_links(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV}:
            raise LinkError(path) from error
        raise


def _require_file(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise LinkError(path)
