"""The port Volumes for a folder of this machine: looks at names, sizes and times, and never opens a user's file."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.volumes import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 1_000_000
"""More than this many files in one source take too long to look at in every pass."""


class LocalVolumes:
    """The data volume at ``root``. Links within the volume are noted by their target, links out of it are refused."""

    def __init__(self, root: Path, *, max_files: int = MAX_FILES) -> None:
        self._root = root.absolute()
        self._max_files = max_files

    @property
    def root(self) -> str:
        """Where pipelines find the data volume."""
        return str(self._root)

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """Look at a file or folder; None when there is none. Raises RejectedError for paths and links out of the volume."""
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise RejectedError("volumes", f"{path!r} must be a relative path that stays inside of the data volume")
        try:
            return await asyncio.to_thread(self._fingerprint, path)
        except OSError as error:
            raise OutageError("volumes", str(error)) from error

    def _fingerprint(self, path: str) -> Fingerprint | None:
        root = self._root.resolve()
        start = self._root / path
        if not start.exists():
            return None
        _refuse_escape(start, root)
        digest, files = hashlib.sha256(), 0
        for line in _lines(start.resolve(), root):
            files += 1
            if files > self._max_files:
                message = f"{path!r} holds more than {self._max_files} files; divide it into several sources"
                raise RejectedError("volumes", message)
            digest.update(line.encode())
        return Fingerprint(digest=f"sha256:{digest.hexdigest()}", files=files)


def _lines(start: Path, root: Path) -> Iterator[str]:
    """One line for each file, in an order that depends on names only."""
    if not start.is_dir():
        yield _line(start, ".")
        return
    folders = [start]
    while folders:
        folder = folders.pop()
        for name, is_folder in _entries(folder):
            entry = folder / name
            if entry.is_symlink():
                _refuse_escape(entry, root)
            if is_folder:
                folders.append(entry)
            else:
                yield _line(entry, str(entry.relative_to(start)))


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names with whether each is a real folder, sorted; nothing for a folder that was removed meanwhile."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except FileNotFoundError:
        return []


def _line(file: Path, name: str) -> str:
    """``repr`` keeps names apart that hold line breaks, and bytes that are no text."""
    try:
        target = str(file.readlink()) if file.is_symlink() else ""
        seen = file.stat() if file.exists() else file.lstat()
    except FileNotFoundError:
        return f"{name!r} removed\n"
    return f"{name!r} {seen.st_size} {seen.st_mtime_ns} {target!r}\n"


def _refuse_escape(entry: Path, root: Path) -> None:
    if not entry.resolve().is_relative_to(root):
        raise RejectedError(
            "volumes", f"{entry} is a link that leads out of the data volume; copy what it names into it"
        )
