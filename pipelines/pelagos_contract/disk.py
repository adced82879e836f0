"""Writes files atomically and handles full disks: partial files are removed, and the error names the full volume.

Used by everything that writes files. Depends on the standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error codes for lack of space: on the volume, in this account's quota, or within the limit of file sizes."""
_MOUNTS = Path("/proc/self/mountinfo")
_PROBE = bytes(1024**2)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PRIVATE = 0o600
"""Mode of files that only their owner can access."""


class FullError(OSError):
    """There is no space for ``path``; its text says on which volume, how much is left, and what to do."""

    def __init__(self, number: int, path: Path, wanted: int | None = None) -> None:
        """Measure the volume now, before partial files are removed. ``wanted`` is the needed space in bytes, where known."""
        super().__init__(number, os.strerror(number), str(path))
        self._explanation = _explained(number, path, wanted)

    def __str__(self) -> str:
        return self._explanation


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A context in which to write a file or a folder, which is removed completely when that fails.

    Raises:
        FullError: there was no space.
    """
    try:
        yield path
    except BaseException as error:
        full = _full(error, path)
        _remove(path)
        if full is None:
            raise
        raise full from error


def write_atomically(path: Path, content: str | bytes, *, mode: int = 0o666, parents: bool = False) -> None:
    """Write or replace a file so that readers see either all or nothing of it, also after a crash.

    ``mode`` is reduced by the umask, as for open(2). ``parents``: create missing parent folders.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    with written(path.with_name(f".{path.name}.{os.getpid()}.partial")) as partial:
        replace(str(path), str(partial), content, mode)


def replace(name: str, partial: str, content: str | bytes, mode: int, folder: int | None = None) -> None:
    """The same by way of the file ``partial``, which stays if that fails; both names may be relative to the open ``folder``."""
    with contextlib.suppress(FileNotFoundError):  # left by a crash, perhaps with a mode that allows more readers
        os.unlink(partial, dir_fd=folder)
    with os.fdopen(os.open(partial, _NEW, mode, dir_fd=folder), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)


def explain(error: OSError, otherwise: Path) -> str:
    """The message for an error of `FULL`; ``otherwise`` is the written path, for when the error has none."""
    if isinstance(error, FullError):
        return str(error)
    return _explained(error.errno or 0, _named(error, otherwise), None)


def volume(path: Path) -> Path:
    """The mount point of the volume that holds ``path``, which need not exist."""
    place = Path(os.path.realpath(path))
    try:
        mounted = {Path(_unescaped(line.split(" ")[4])) for line in _MOUNTS.read_text(encoding="utf-8").splitlines()}
    except (OSError, IndexError):
        mounted = set()
    return next((one for one in (place, *place.parents) if one in mounted), Path("/"))


def _full(error: BaseException, path: Path) -> FullError | None:
    if isinstance(error, FullError):
        return None
    if isinstance(error, OSError):
        return FullError(error.errno, _named(error, path)) if error.errno in FULL else None
    # torch raises RuntimeError for every failed write: find out by a write of our own whether the disk is full.
    number = _refusal(path.parent) if isinstance(error, RuntimeError) else None
    return FullError(number, path) if number in FULL else None


def _named(error: OSError, otherwise: Path) -> Path:
    """The written path. The error of a copy names both its source and target, one of a descriptor has a number or nothing."""
    found = error.filename2 or error.filename
    return Path(os.fsdecode(found)) if isinstance(found, str | bytes | os.PathLike) else otherwise


def _refusal(folder: Path) -> int | None:
    """The error code of a small test write; None when it succeeds."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _explained(number: int, path: Path, wanted: int | None) -> str:
    place = volume(path)
    if number == errno.EDQUOT:
        lead = f"the disk quota of user {os.geteuid()} on the volume {place} is used up, so {path} cannot be written"
        return f"{lead}; remove files of that user there, or have the quota raised"
    if number == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        limit = "its file system has" if most == resource.RLIM_INFINITY else f"ulimit -f sets to {_size(most)} has"
        lead = f"{path} would be larger than a file on the volume {place} may be: the limit that {limit} been reached"
        return f"{lead}; raise it, or use another volume"
    return (
        f"no space is left on the volume {place} to write {path}{_room(place, wanted)};"
        f" free space on the volume, or make it larger"
    )


def _room(place: Path, wanted: int | None) -> str:
    try:
        found = os.statvfs(place)
    except OSError:
        return ""
    if found.f_files and not found.f_favail:
        return f": it already has all of the {found.f_files} files that it can hold"
    free = f": {_size(found.f_bavail * found.f_frsize)} of {_size(found.f_blocks * found.f_frsize)} are free"
    return free if wanted is None else f"{free}, {_size(wanted)} are needed"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _unescaped(text: str) -> str:
    """Decode the octal escapes of spaces and similar characters in the list of mounts."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
