"""Files below a folder that strangers may write to, opened step by step from its descriptor and never through a link.

The annotation readers, the integrity check, versions and checkpoints read users' files through this. A path is checked again by
whoever opens it later; a descriptor is not: what was looked at is what is read, whatever the name stands for by then.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

MAX_DEPTH = 64
"""Folders below one another. Deeper ones are no layout of images, and would cost a descriptor each."""
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""A pipe without a writer must not make us wait."""
_CHUNK = 1024**2


class NoFileError(Exception):
    """The name stands for a link, or leads through one, or for what is no regular file."""


class TooLargeError(Exception):
    """The file has more bytes than the caller reads."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class ChangedError(Exception):
    """The file was changed or removed while it was read. Trying again helps."""


@dataclass
class Listing:
    """What lies below a folder: paths relative to it, with forward slashes.

    ``special`` are pipes, sockets and devices; ``closed`` what may not be read; ``deep`` the folders below which nobody looked;
    ``unwanted`` everything but folders that has a name, or lies in a folder with a name, that is not wanted; ``bare`` are
    folders in which nothing else is.
    """

    files: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    deep: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    entries: int = 0


@dataclass(frozen=True)
class Opened:
    """An open regular file, and how it was when it was opened."""

    descriptor: int
    path: str
    seen: os.stat_result

    @property
    def size(self) -> int:
        """Bytes."""
        return self.seen.st_size

    def require_same(self) -> None:
        """Raise ChangedError when the file is not what it was."""
        _require_same(self.seen, os.fstat(self.descriptor), self.size, self.path)


class Folder:
    """An open folder. Safe to use from several threads; closed when the last reference is gone."""

    def __init__(self, path: Path, below: str = ".") -> None:
        """Open ``path``, which is trusted, or the folder ``below`` it, on the way to which links are not followed.

        Raises:
            NoFileError: there is a link on the way, or no folder at its end.
            OSError: it is not there, or may not be opened.
        """
        self._descriptor = -1
        base = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _refusing_links(below), _parent(base, below) as (parent, name):
                self._descriptor = os.open(name, _FOLDER, dir_fd=parent)
        finally:
            os.close(base)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def look(self, wanted: Callable[[str], bool], limit: int) -> Listing:
        """All entries, divided by whether their name, and the names of their folders, are ``wanted``.

        Nobody looks further after ``limit`` entries: the listing then has more than that.
        """
        found = Listing()
        folders = [("", True)]
        while folders and found.entries <= limit:
            path, is_wanted = folders.pop()
            folders += reversed(self._sort_in(path, wanted if is_wanted else _nothing, limit, found))
        return found

    def is_file(self, path: str) -> bool:
        """Whether ``path`` is a regular file that may be read."""
        try:
            with self._parent(path) as (parent, name):
                return stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except (OSError, NoFileError):
            return False

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        """A regular file, opened for reading.

        Raises:
            NoFileError: it is none, or a link leads to it.
            ChangedError: it is not there any more.
            OSError: it may not be opened.
        """
        with self._parent(path) as (parent, name), _refusing_links(path):
            # Merely opening a device may do something; only then is the descriptor judged, which cannot be swapped.
            _require_file(os.stat(name, dir_fd=parent, follow_symlinks=False), path)
            descriptor = os.open(name, _FILE, dir_fd=parent)
        try:
            seen = os.fstat(descriptor)
            _require_file(seen, path)
            yield Opened(descriptor, path, seen)
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int) -> bytes:
        """The content of a regular file of at most ``limit`` bytes, as it was at one time.

        Raises:
            TooLargeError: it has more.
            ChangedError, NoFileError, OSError: see open.
        """
        with self.open(path) as opened:
            if opened.size > limit:
                raise TooLargeError(opened.size)
            with os.fdopen(os.dup(opened.descriptor), "rb") as file:
                content = file.read(opened.size + 1)
            opened.require_same()
        if len(content) != opened.size:
            raise ChangedError(f"{path!r} changed while it was read; try again")
        return content

    def copy(self, path: str, target: Path, limit: int | None = None) -> str:
        """Copy a regular file to ``target``; the sha256 of the bytes that were written.

        Raises:
            TooLargeError: it has more than ``limit`` bytes; nothing was written.
            ChangedError, NoFileError, OSError: see open.
        """
        digest = hashlib.sha256()
        copied = 0
        with self.open(path) as opened, contextlib.ExitStack() as stack:
            if limit is not None and opened.size > limit:
                raise TooLargeError(opened.size)
            file = stack.enter_context(target.open("wb"))
            while copied <= opened.size and (chunk := os.read(opened.descriptor, _CHUNK)):
                digest.update(chunk)
                file.write(chunk)
                copied += len(chunk)
            _require_same(opened.seen, os.fstat(opened.descriptor), copied, path)
        return digest.hexdigest()

    def _parent(self, path: str) -> contextlib.AbstractContextManager[tuple[int, str]]:
        return _parent(self._descriptor, path)

    def _sort_in(self, path: str, wanted: Callable[[str], bool], limit: int, found: Listing) -> list[tuple[str, bool]]:
        """Put the entries of one folder into the listing; the folders among them, with whether they are wanted."""
        try:
            with self._parent(path) as (parent, name):
                descriptor = os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            (found.unwanted if wanted is _nothing else found.closed).append(path or ".")
            return []
        except (FileNotFoundError, NotADirectoryError, NoFileError, ChangedError):
            return []  # removed, or replaced, since its name was read
        folders = []
        try:
            with os.scandir(descriptor) as entries:
                seen = sorted((entry.name, _kind(entry)) for entry in islice(entries, limit + 1))
            found.entries += len(seen)
            is_deep = path.count("/") + 1 >= MAX_DEPTH
            if path and wanted is not _nothing and not any(wanted(name) for name, _ in seen):
                found.bare.append(path)
            for name, kind in seen:
                whole = f"{path}/{name}" if path else name
                if kind == "folder" and not is_deep:
                    folders.append((whole, wanted(name)))
                elif not wanted(name):
                    found.unwanted.append(whole)
                elif kind != "folder":
                    self._note(whole, kind, descriptor, found)
                elif path not in found.deep[-1:]:
                    found.deep.append(path)
        finally:
            os.close(descriptor)
        return folders

    def _note(self, path: str, kind: str, parent: int, found: Listing) -> None:
        if kind == "link":
            found.links.append(path)
        elif kind == "special":
            found.special.append(path)
        elif kind == "file":
            may = os.access(path.rpartition("/")[2], os.R_OK, dir_fd=parent, effective_ids=True)
            (found.files if may else found.closed).append(path)


def resolved(base: Path, path: str) -> str | None:
    """Where ``path`` leads from the resolved folder ``base`` by links, as a path below it; None when that is elsewhere.

    Only names are looked at. Whoever opens the file follows no link, so that it does not matter what changes meanwhile.
    """
    try:
        real = Path(os.path.realpath(base / path))
        return real.relative_to(base).as_posix() if real.is_relative_to(base) else None
    except (OSError, ValueError, RuntimeError):  # removed between two looks; a name that none can have
        return None


def _nothing(name: str) -> bool:
    """What is wanted below a folder that is not."""
    return False


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


@contextlib.contextmanager
def _parent(descriptor: int, path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that holds the last part of ``path``, and that part."""
    parts = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    if ".." in parts or path.startswith("/") or "\0" in path:
        raise NoFileError(f"{path!r} does not stay below the folder")
    current = os.open(".", _STEP, dir_fd=descriptor)
    try:
        for part in parts[:-1]:
            with _refusing_links(path):
                following = os.open(part, _STEP, dir_fd=current)
            os.close(current)
            current = following
        yield current, parts[-1]
    finally:
        os.close(current)


@contextlib.contextmanager
def _refusing_links(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EMLINK}:
            raise NoFileError(f"{path!r} is a link, leads through one, or is no regular file") from error
        if error.errno == errno.ENOENT:
            raise ChangedError(f"{path!r} is not there any more") from error
        raise


def _require_file(seen: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(seen.st_mode):
        raise NoFileError(f"{path!r} is a link or no regular file")


def _require_same(before: os.stat_result, after: os.stat_result, size: int, path: str) -> None:
    if size != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ChangedError(f"{path!r} changed while it was read; try again")
