"""Files below a folder that strangers may write to, opened step by step from its descriptor and never through a link.

All that reads users' files uses this: annotation readers, the integrity check, versions and checkpoints by a `Folder` that they
hold open; the engines that look at the data volume and at the store by a path for each look. A path is checked again by whoever
opens it later; a descriptor is not: what was looked at is what is read, whatever the name stands for by then.
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
STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""A pipe without a writer must not make us wait."""
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EMLINK})
"""With what the opening of links, and of what is no file, ends."""
_CHUNK = 1024**2


class NoFileError(Exception):
    """The name stands for a link, or leads through one, or for what is no regular file."""


class FileInsteadError(NoFileError):
    """A file stands where a folder should be, so that nothing can be below it."""


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
            with _missing(below), _telling_links(below), _above(base, below) as (above, name):
                self._descriptor = os.open(name, FOLDER, dir_fd=above)
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
            with self._above(path) as (above, name):
                return stat.S_ISREG(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
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
        # Of what is opened by the thousand: without a block for each thing that can go wrong.
        try:
            with _above(self._descriptor, path) as (above, name):
                opened = _open(above, name, path)
        except FileNotFoundError as error:
            raise ChangedError(f"{path!r} is not there any more") from error
        try:
            yield opened
        finally:
            os.close(opened.descriptor)

    def read(self, path: str, limit: int) -> bytes:
        """The content of a regular file of at most ``limit`` bytes, as it was at one time.

        Raises:
            TooLargeError: it has more.
            ChangedError, NoFileError, OSError: see open.
        """
        with self.open(path) as opened:
            if opened.size > limit:
                raise TooLargeError(opened.size)
            pieces, left = [], opened.size + 1
            while left and (piece := os.read(opened.descriptor, left)):
                pieces.append(piece)
                left -= len(piece)
            opened.require_same()
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(content) != opened.size:
            raise ChangedError(f"{path!r} changed while it was read; try again")
        return content

    def copy(self, path: str, target: Path, limit: int | None = None) -> str:
        """Copy a regular file to ``target``; the sha256 of the bytes that were written.

        Raises:
            TooLargeError: it has more than ``limit`` bytes; nothing was written.
            ChangedError, NoFileError, OSError: see open.
        """
        with self.open(path) as opened:
            if limit is not None and opened.size > limit:
                raise TooLargeError(opened.size)
            with target.open("wb", buffering=0) as file:
                return _poured(opened, file.fileno())

    def pour(self, path: str, descriptor: int) -> str:
        """Likewise into the open file ``descriptor``, without a limit."""
        with self.open(path) as opened:
            return _poured(opened, descriptor)

    @contextlib.contextmanager
    def _above(self, path: str) -> Iterator[tuple[int, str]]:
        with contextlib.ExitStack() as stack:
            with _missing(path):
                found = stack.enter_context(_above(self._descriptor, path))
            yield found

    def _sort_in(self, path: str, wanted: Callable[[str], bool], limit: int, found: Listing) -> list[tuple[str, bool]]:
        """Put the entries of one folder into the listing; the folders among them, with whether they are wanted."""
        try:
            with self._above(path) as (above, name):
                descriptor = os.open(name, FOLDER, dir_fd=above)
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


@contextlib.contextmanager
def parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that holds the last part of ``path``, below the trusted ``root``, and that part.

    Raises:
        NoFileError: a link stands where a folder should be, or the path leads out.
        FileInsteadError: likewise a file.
        OSError: it is not there, or may not be entered.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _above(base, path) as found:
            yield found
    finally:
        os.close(base)


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
        NoFileError: see parent.
        TooLargeError: it has more than ``limit`` bytes.
        OSError: it is not there, or may not be read.
    """
    with parent(root, path) as (folder, name):
        return read_in(folder, name, path, limit)


def read_in(folder: int, name: str, path: str, limit: int) -> bytes:
    """Likewise of the file ``name`` in the open ``folder``, of which people speak as ``path``."""
    with _opened(folder, name, path) as opened, os.fdopen(os.dup(opened.descriptor), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(len(content))
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
def _above(descriptor: int, path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that holds the last part of ``path``, and that part. Raises as ``parent`` does."""
    parts = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    if ".." in parts or path.startswith("/") or "\0" in path:
        raise NoFileError(f"{path!r} does not stay below the folder")
    current = descriptor
    try:
        for part in parts[:-1]:
            following = _step(current, part, path)
            if current != descriptor:
                os.close(current)
            current = following
        yield current, parts[-1]
    finally:
        if current != descriptor:
            os.close(current)


def _step(folder: int, name: str, path: str) -> int:
    try:
        return os.open(name, STEP, dir_fd=folder)
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        raise (NoFileError if is_link else FileInsteadError)(_no_file(path)) from error


@contextlib.contextmanager
def _opened(folder: int, name: str, path: str) -> Iterator[Opened]:
    """The regular file ``name`` in an open folder, of which people speak as ``path``; a pipe is not waited for."""
    opened = _open(folder, name, path)
    try:
        yield opened
    finally:
        os.close(opened.descriptor)


def _open(folder: int, name: str, path: str) -> Opened:
    try:
        # Merely opening a device may do something; only then is the descriptor judged, which cannot be swapped.
        _require_file(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINKS:
            raise NoFileError(_no_file(path)) from error
        raise
    try:
        seen = os.fstat(descriptor)
        _require_file(seen, path)
    except BaseException:
        os.close(descriptor)
        raise
    return Opened(descriptor, path, seen)


def _poured(opened: Opened, descriptor: int) -> str:
    digest, copied = hashlib.sha256(), 0
    while copied <= opened.size and (chunk := os.read(opened.descriptor, _CHUNK)):
        digest.update(chunk)
        write(descriptor, chunk)
        copied += len(chunk)
    _require_same(opened.seen, os.fstat(opened.descriptor), copied, opened.path)
    return digest.hexdigest()


def write(descriptor: int, content: bytes) -> None:
    """Write all of it into an open file. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def _telling_links(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _LINKS:
            raise NoFileError(_no_file(path)) from error
        raise


@contextlib.contextmanager
def _missing(path: str) -> Iterator[None]:
    """For those who saw the name a moment ago: what is not there was removed."""
    try:
        yield
    except FileNotFoundError as error:
        raise ChangedError(f"{path!r} is not there any more") from error


def _no_file(path: str) -> str:
    return f"{path!r} is a link, leads through one, or is no regular file"


def _writable(above: int, name: str) -> int:
    """A folder opened for reading, after its protection was taken away; a pipeline may have protected what it wrote."""
    step = os.open(name, STEP, dir_fd=above)
    try:
        with contextlib.suppress(OSError):
            os.chmod(f"/proc/self/fd/{step}", 0o700)  # noqa: PTH101 - the only way to a descriptor of this kind
        return os.open(".", FOLDER, dir_fd=step)
    finally:
        os.close(step)


def _entries(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _require_file(seen: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(seen.st_mode):
        raise NoFileError(f"{path!r} is a link or no regular file")


def _require_same(before: os.stat_result, after: os.stat_result, size: int, path: str) -> None:
    if size != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ChangedError(f"{path!r} changed while it was read; try again")
