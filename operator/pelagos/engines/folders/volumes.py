"""The Volumes port on a folder of this machine: reads names, sizes and times, and the content of small label files.

It parses nothing: content is only digested, up to a limit, and never read through a link (beneath).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.engines.folders import label_digests
from pelagos.engines.storage import paths
from pelagos.engines.storage.paths import VOLUMES
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.volumes import Fingerprint
from pelagos_contract import beneath

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 1_000_000
"""Most files and folders in one source; more would take too long to read in every pass."""
_NOT_DATA = frozenset(
    {"__MACOSX", "@eaDir", "lost+found", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
    | {"__pycache__", "wandb", "mlruns"}
)
_SHOWN = 200


class FolderVolumes:
    """The data volume at ``root``. Links within the volume count as their targets; links out of it are refused."""

    def __init__(self, root: Path, *, max_files: int = MAX_FILES) -> None:
        self._root = root.absolute()
        self._max_files = max_files
        self._digests = label_digests.Digests()

    @property
    def root(self) -> str:
        """The data volume's path, for pipelines."""
        return str(self._root)

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """The fingerprint of a file or folder; None when there is none. Raises RejectedError for paths out of the volume."""
        paths.require_in_volume(path)
        try:
            return await asyncio.to_thread(self._fingerprint, path)
        except PermissionError as error:
            message = (
                f"{path!r} may not be read by the operator's account; give it the right to read it (chmod -R a+rX)"
            )
            raise RejectedError(VOLUMES, message) from error
        except OSError as error:
            if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
                return None  # nothing can exist at a name that is too long, or at the end of a loop of links
            raise OutageError(VOLUMES, str(error)) from error

    def _fingerprint(self, path: str) -> Fingerprint | None:
        root = self._root.resolve()
        try:
            start = _target(root, self._root / path)
            if start is None:
                raise RejectedError(
                    VOLUMES, f"{path!r} is a link that leads out of the data volume; copy what it names into it"
                )
            digest, files = hashlib.sha256(), 0
            for line in _Look(root, start, path, self._max_files, self._digests).lines():
                files += 1
                digest.update(line.encode())
        except (FileNotFoundError, beneath.NoFileError):
            return None
        return Fingerprint(digest=f"sha256:{digest.hexdigest()}", files=files)


class _Look:
    """One look at a source, at ``start`` below the volume ``root``; messages call it ``named``."""

    def __init__(self, root: Path, start: str, named: str, limit: int, digests: label_digests.Digests) -> None:
        self._root = root
        self._start = start
        self._named = named
        self._limit = limit
        self._digests = digests
        self._budget = label_digests.Budget()
        self._entries = 0

    def lines(self) -> Iterator[str]:
        """Yield one line per file, in an order that depends only on names."""
        found = beneath.seen(self._root, self._start)
        if stat.S_ISLNK(found.st_mode):  # still a link after it was resolved: a loop
            raise beneath.NoFileError(self._start)
        if not stat.S_ISDIR(found.st_mode):
            with beneath.parent(self._root, self._start) as (parent, name):
                yield self._line(parent, name, ".")
            return
        folders = [""]
        while folders:
            folder = folders.pop()
            if folder.count("/") >= beneath.MAX_DEPTH:
                if not _is_data(folder):
                    continue
                message = f"{self._named!r} holds folders more than {beneath.MAX_DEPTH} deep; move their files up"
                raise RejectedError(VOLUMES, f"{message} (the first is {folder[:_SHOWN]!a})")
            yield from self._in(folder, folders)

    def _in(self, folder: str, folders: list[str]) -> Iterator[str]:
        """Yield the lines of the files in one folder; its subfolders are appended to ``folders``."""
        try:
            with beneath.parent(self._root, f"{self._start}/{folder}") as (parent, name):
                descriptor = os.open(name, beneath.FOLDER, dir_fd=parent)
        except PermissionError as error:
            if not _is_data(folder):
                yield f"{folder!r} closed\n"
                return
            message = f"{self._named!r} holds the folder {folder[:_SHOWN]!a}, which the operator's account may not read"
            raise RejectedError(VOLUMES, f"{message}; give it the right (chmod -R a+rX)") from error
        except (OSError, beneath.NoFileError) as error:
            if not isinstance(error, OSError) or error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return  # removed or replaced since it was listed
            raise
        try:
            with os.scandir(descriptor) as entries:
                # Read at most one more than allowed: a folder with many millions of entries must not fill the memory.
                found = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in islice(entries, self._limit + 1))
            self._entries += len(found)
            if self._entries > self._limit:
                message = (
                    f"{self._named!r} holds more than {self._limit} files and folders; divide it into several sources"
                )
                raise RejectedError(VOLUMES, message)
            for name, is_folder in found:
                path = f"{folder}/{name}" if folder else name
                if is_folder:
                    folders.append(path)
                else:
                    yield self._line(descriptor, name, path)
        finally:
            os.close(descriptor)

    def _line(self, parent: int, name: str, path: str) -> str:
        """The line of one file. ``repr`` keeps names distinct that contain line breaks or bytes that are not text."""
        try:
            seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
            target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(seen.st_mode) else ""
            # Note whether it can be read: a right that is granted later is a change, but alters neither size nor time.
            closed = "" if target or os.access(name, os.R_OK, dir_fd=parent, effective_ids=True) else " closed"
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EINVAL}:
                raise
            return f"{path!r} removed\n"
        content = ""
        # Files that pipelines ignore, and those beyond the budget, are identified only by size and time.
        if not target and not closed and self._budget.allows(name, seen) and _is_data(path):
            content = " changing"
            with contextlib.suppress(OSError, beneath.NoFileError, beneath.TooLargeError):
                content = f" {self._digests.of(seen, lambda: beneath.read_in(parent, name, path, seen.st_size))}"
        if target:
            # Use the state of a link's target, which is what changes when somebody edits it.
            real = _target(self._root, self._root / self._start / path)
            if real is None:
                message = f"{path[:_SHOWN]!a} in {self._named!r} is a link that leads out of the data volume"
                raise RejectedError(VOLUMES, f"{message}; copy what it names into it")
            with contextlib.suppress(OSError, beneath.NoFileError):
                seen = beneath.seen(self._root, real)
        return f"{path!r} {seen.st_size} {seen.st_mtime_ns} {target!r}{closed}{content}\n"


def _is_data(folder: str) -> bool:
    """Whether pipelines read the folder; those that they skip need not be readable."""
    return not any(part.startswith(".") or part in _NOT_DATA for part in folder.split("/"))


def _target(root: Path, entry: Path) -> str | None:
    """The resolved path, relative to the volume; None when it is outside. Nothing is opened through links."""
    try:
        real = Path(os.path.realpath(entry))
    except OSError:  # it changed while being resolved: take the path as it is
        real = entry
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else None
