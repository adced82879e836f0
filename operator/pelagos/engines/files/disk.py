"""A full disk: what is half-written goes away, and the words say which volume is full. For engines that write files.

The data plane has the same in pelagos_pipelines.disk; neither imports the other.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pelagos.api import reasons
from pelagos.ports.errors import RejectedError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Codes of errors that say that there is no room: on the volume, for this account, or for one more byte in the file."""
_MOUNTS = Path("/proc/self/mountinfo")


class FullError(OSError):
    """There is no room for ``path``; as a text it says where, how much there is, and what to do."""

    def __init__(self, number: int, path: Path) -> None:
        """Look at the volume at once: what is half-written is removed afterwards."""
        super().__init__(number, os.strerror(number), str(path))
        self._explanation = _explained(number, path)

    def __str__(self) -> str:
        return self._explanation


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Around the writing of a file, or of a folder with all that is in it: nothing of it stays when that fails.

    Raises:
        FullError: there was no room.
    """
    try:
        yield path
    except BaseException as error:
        full = _full(error, path)
        _remove(path)
        if full is None:
            raise
        raise full from error


@contextmanager
def told(system: str, place: Path) -> Iterator[None]:
    """Around what writes below ``place``. Raises RejectedError with the reason DiskFull when there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise RejectedError(system, explain(error, place), reason=reasons.DISK_FULL) from error


def explain(error: OSError, otherwise: Path) -> str:
    """The words for an error of `FULL`; ``otherwise`` is where it was written to when the error does not say."""
    if isinstance(error, FullError):
        return str(error)
    return _explained(error.errno or 0, _named(error, otherwise))


def volume(path: Path) -> Path:
    """Where the volume is mounted that holds ``path``, which need not exist."""
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
    return None


def _named(error: OSError, otherwise: Path) -> Path:
    """Where it was written to. An error of a copy names both of its ends, one of a descriptor has a number, or nothing."""
    found = error.filename2 or error.filename
    return Path(os.fsdecode(found)) if isinstance(found, str | bytes | os.PathLike) else otherwise


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _explained(number: int, path: Path) -> str:
    place = volume(path)
    if number == errno.EDQUOT:
        lead = (
            f"the disk quota of user {os.geteuid()} on the volume {place} is used up, so that {path} cannot be written"
        )
        return f"{lead}; remove files of that user there, or have the quota raised"
    if number == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        limit = "its file system has" if most == resource.RLIM_INFINITY else f"ulimit -f sets to {_size(most)} has"
        lead = f"{path} would be larger than a file on the volume {place} may be: the limit that {limit} been reached"
        return f"{lead}; raise it, or use another volume"
    return (
        f"no space is left on the volume {place} to write {path}{_room(place)};"
        f" free space on the volume, or make it larger"
    )


def _room(place: Path) -> str:
    try:
        found = os.statvfs(place)
    except OSError:
        return ""
    if found.f_files and not found.f_favail:
        return f": all of the {found.f_files} files that it can hold are there"
    return f": {_size(found.f_bavail * found.f_frsize)} of {_size(found.f_blocks * found.f_frsize)} are free"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _unescaped(text: str) -> str:
    """Spaces and the like stand in the list of mounts as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
