"""Opens files below a folder that untrusted users can write to, component by component by descriptor, never through a link.

All code that reads users' files uses this. Annotation readers, the integrity check, versions and checkpoints hold a `Folder`
open. The engines that look at the data volume and at the store pass a path each time. A path must be checked again whenever it
is opened. A descriptor need not be: the checked file is the one that is read, even if its name has come to point elsewhere.
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
"""Most nested folders. No layout of images is deeper, and each level would cost a descriptor."""
STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""O_NONBLOCK, since opening a pipe without a writer would block."""
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EMLINK})
"""Errors when a link, or something that is not a file, is opened with these flags."""
_CHUNK = 1024**2


class NoFileError(Exception):
    """The name is a link, leads through one, or is not a regular file."""


class FileInsteadError(NoFileError):
    """A component of the path is a file instead of a folder."""


class TooLargeError(Exception):
    """The file has more bytes than the caller accepts."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class ChangedError(Exception):
    """The file was changed or removed while it was read. A retry can help."""


@dataclass
class Listing:
    """The contents of a folder, as paths relative to it with forward slashes.

    ``special`` are pipes, sockets and devices; ``closed`` cannot be read for lack of permission; ``deep`` are folders that were
    not entered, at `MAX_DEPTH`; ``unwanted`` are entries other than folders whose name, or that of a folder on the way, is not
    wanted; ``bare`` are empty folders.
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
    """An open regular file, with its stat result from when it was opened."""

    descriptor: int
    path: str
    seen: os.stat_result

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.seen.st_size

    def require_same(self) -> None:
        """Raise ChangedError if the file has changed since it was opened."""
        _require_same(self.seen, os.fstat(self.descriptor), self.size, self.path)


class Folder:
    """An open folder. Safe to use from several threads; closed when it is garbage-collected."""

    def __init__(self, path: Path, below: str = ".") -> None:
        """Open ``path``, which is trusted, or the folder ``below`` it without following links on the way.

        Raises:
            NoFileError: there is a link on the way, or it is not a folder.
            OSError: it does not exist or cannot be opened.
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
        """List all entries, sorted by kind and by whether their name and those of their folders are ``wanted``.

        The search ends beyond ``limit`` entries: the listing then has more than that.
        """
        found = Listing()
        folders = [("", True)]
        while folders and found.entries <= limit:
            path, is_wanted = folders.pop()
            folders += reversed(self._sort_in(path, wanted if is_wanted else _nothing, limit, found))
        return found

    def is_file(self, path: str) -> bool:
        """Whether ``path`` is a regular file, reached without a link."""
        try:
            with self._above(path) as (above, name):
                return stat.S_ISREG(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
        except (OSError, NoFileError):
            return False

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        """Open a regular file for reading.

        Raises:
            NoFileError: it is not a regular file, or a link leads to it.
            ChangedError: it no longer exists.
            OSError: it cannot be opened.
        """
        # Files are opened by the thousand: one try block is cheaper than a context manager for each kind of error.
        try:
            with _above(self._descriptor, path) as (above, name):
                opened = _open(above, name, path)
        except FileNotFoundError as error:
            raise ChangedError(f"{path!r} no longer exists") from error
        try:
            yield opened
        finally:
            os.close(opened.descriptor)

    def read(self, path: str, limit: int) -> bytes:
        """A consistent read of a regular file of at most ``limit`` bytes.

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
        """Copy a regular file to ``target``; returns the SHA-256 of the written bytes.

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
        """Copy a regular file into the open file ``descriptor``, without a limit; returns the SHA-256. Raises as ``copy``."""
        with self.open(path) as opened:
            return _poured(opened, descriptor)

    @contextlib.contextmanager
    def _above(self, path: str) -> Iterator[tuple[int, str]]:
        with contextlib.ExitStack() as stack:
            with _missing(path):
                found = stack.enter_context(_above(self._descriptor, path))
            yield found

    def _sort_in(self, path: str, wanted: Callable[[str], bool], limit: int, found: Listing) -> list[tuple[str, bool]]:
        """Add the entries of one folder to the listing; returns its folders, with whether they are wanted."""
        try:
            with self._above(path) as (above, name):
                descriptor = os.open(name, FOLDER, dir_fd=above)
        except PermissionError:
            (found.unwanted if wanted is _nothing else found.closed).append(path or ".")
            return []
        except (FileNotFoundError, NotADirectoryError, NoFileError, ChangedError):
            return []  # removed or replaced since its name was read
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
    """Open the parent folder of ``path`` below the trusted ``root``; yields its descriptor and the last component.

    Raises:
        NoFileError: a component is a link, or the path leads out of ``root``.
        FileInsteadError: a component is a file.
        OSError: the folder does not exist or cannot be entered.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _above(base, path) as found:
            yield found
    finally:
        os.close(base)


@contextlib.contextmanager
def made_parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """Like ``parent``, but creates missing folders on the way with mode 0700."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for depth in range(1, len(parts)):
        with parent(root, "/".join(parts[:depth])) as (folder, name), contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
    with parent(root, path) as found:
        yield found


def names(root: Path, path: str) -> list[str]:
    """The names in a folder below ``root``. Raises as ``parent`` does."""
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
    """The content of a regular file below ``root``. Never blocks on a pipe.

    Raises:
        NoFileError: see parent.
        TooLargeError: it has more than ``limit`` bytes.
        OSError: it does not exist or cannot be read.
    """
    with parent(root, path) as (folder, name):
        return read_in(folder, name, path, limit)


def read_in(folder: int, name: str, path: str, limit: int) -> bytes:
    """Like ``read`` for the file ``name`` in the open ``folder``; messages call it ``path``."""
    with _opened(folder, name, path) as opened, os.fdopen(os.dup(opened.descriptor), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(len(content))
    return content


def seen(root: Path, path: str) -> os.stat_result:
    """The stat result of ``path``, without following a final link. Raises as ``parent`` does."""
    with parent(root, path) as (folder, name):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)


def latest_change(root: Path, path: str) -> float:
    """The latest modification of ``path`` or anything below it, as Unix time. Raises as ``parent`` does."""
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
    """Remove ``name`` in the open folder ``root`` recursively, at any depth; what cannot be removed stays.

    Nested folders are moved up to ``root`` before they are emptied, so that neither paths nor the call stack grow with depth.
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
    """Resolve the links of ``path`` from the resolved folder ``base``, as a path below it; None when it leads elsewhere.

    Only names are read. The file is later opened without following links, so changes after this call do no harm.
    """
    try:
        real = Path(os.path.realpath(base / path))
        return real.relative_to(base).as_posix() if real.is_relative_to(base) else None
    except (OSError, ValueError, RuntimeError):  # removed in between; an impossible name; a loop of links
        return None


def _nothing(name: str) -> bool:
    """The predicate for names below an unwanted folder: none is wanted."""
    return False


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


@contextlib.contextmanager
def _above(descriptor: int, path: str) -> Iterator[tuple[int, str]]:
    """Like ``parent``, from an open folder."""
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
    """Open the regular file ``name`` in an open folder; messages call it ``path``. Never blocks on a pipe."""
    opened = _open(folder, name, path)
    try:
        yield opened
    finally:
        os.close(opened.descriptor)


def _open(folder: int, name: str, path: str) -> Opened:
    try:
        # Check the name first, since merely opening a device can have effects; then the descriptor, which cannot be swapped.
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
    """Write all of ``content`` to an open file, also over several short writes. Raises OSError."""
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
    """Turn FileNotFoundError into ChangedError, for callers that have just seen the name."""
    try:
        yield
    except FileNotFoundError as error:
        raise ChangedError(f"{path!r} no longer exists") from error


def _no_file(path: str) -> str:
    return f"{path!r} is a link, leads through one, or is no regular file"


def _writable(above: int, name: str) -> int:
    """Open a folder after making it writable, since a pipeline may have write-protected what it wrote."""
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
