"""The folder for an installation's Unix sockets: private to its owner, with a short enough path. Called by the local engines."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from pelagos.ports.errors import OutageError

_LONGEST = 107
"""Longest path of a socket on Linux, in bytes."""
_NAMES = 24
"""Bytes reserved for names below the folder."""
_ELSEWHERE = Path("/tmp")  # noqa: S108 - only where a folder there proves to be ours
_LISTENS, _FLAGS, _PATH = "00010000", 3, 7
"""In /proc/net/unix: the flags of a listening socket, and the columns of flags and path."""


def folder(home: Path) -> Path:
    """The folder, created if needed: in the home, or in /tmp if the home's path is too long.

    Raises OutageError when it belongs to somebody else.
    """
    found = _place(home)
    found.mkdir(mode=0o700, parents=found.parent == home, exist_ok=True)
    seen = found.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise OutageError("sockets", f"{found} is not a folder of this user; remove it, or ask its owner to")
    if seen.st_mode & 0o077:
        found.chmod(0o700)
    return found


def tidy(home: Path) -> None:
    """Remove the folder if it is empty."""
    with contextlib.suppress(OSError):
        _place(home).rmdir()


def _place(home: Path) -> Path:
    found = home / "run"
    if len(os.fsencode(found)) + _NAMES <= _LONGEST:
        return found
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return _ELSEWHERE / f"pelagos-{os.getuid()}-{digest}"


def connections(path: Path) -> int:
    """The number of open connections to the server that listens, or listened, on this socket."""
    count = 0
    with Path("/proc/net/unix").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            columns = line.rstrip("\n").split(maxsplit=_PATH)
            count += len(columns) > _PATH and columns[_PATH] == str(path) and columns[_FLAGS] != _LISTENS
    return count
