"""A folder in which a step works, and where it is kept: in itself, or below a prefix of a bucket.

Opened by steps for each of their parameters that names a place. For a folder every method but ``kept_as`` does nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import groupby
from pathlib import Path, PurePosixPath

from pelagos_contract.disk import FullError
from pelagos_pipelines.storage import buckets
from pelagos_pipelines.storage.buckets import Bucket, Object, is_remote
from pelagos_pipelines.storage.errors import StorageRefusedError

Stamp = tuple[int, int, int]


class Place:
    """``folder`` is on this machine; ``bucket`` is where it is kept, None for a folder."""

    def __init__(self, uri: str, scratch: Path) -> None:
        """Make no connection yet. ``scratch`` becomes the folder of a place on object storage, emptied of what is left there."""
        self.uri = uri.rstrip("/") if is_remote(uri) else uri
        self.bucket = Bucket(uri) if is_remote(uri) else None
        self.folder = scratch if self.bucket else Path(uri)
        self._kept: dict[str, Stamp] = {}
        self.changing: set[str] = set()
        """Folders that another process writes to at this moment: what is kept of them stays as it is."""
        if self.bucket:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)

    def kept_as(self, path: Path) -> str:
        """What others call ``path``, which is in the folder."""
        return f"{self.uri}/{path.relative_to(self.folder).as_posix()}" if self.bucket else str(path)

    def pull(self, wanted: Callable[[str], bool] = lambda path: True) -> None:
        """Bring what is kept and ``wanted`` (by its path below the place). For places that only our own steps write to."""
        if self.bucket is None:
            return
        bucket = self.bucket
        objects = {entry.path: entry for entry in bucket.list() if wanted(entry.path)}
        targets = safe_targets(objects, self.folder)
        require_room(self.folder, objects.values())
        buckets.at_once(lambda path: bucket.download(path, targets[path]), objects)
        self._kept |= {path: _stamp(target) for path, target in targets.items()}

    def push(self, wanted: Callable[[str], bool], rank: Callable[[str], int] = lambda path: 0) -> None:
        """Keep what changed since ``pull`` or the last ``push``, and remove what is gone.

        ``wanted`` says which paths are to be kept. Those with a lower ``rank`` are there before one with a higher is written.
        """
        if self.bucket is None:
            return
        bucket = self.bucket
        changing = tuple(f"{folder}/" for folder in self.changing)
        present = {path: stamp for path, stamp in _files(self.folder, self.changing).items() if wanted(path)}
        gone = sorted(path for path in self._kept.keys() - present.keys() if not path.startswith(changing))
        bucket.remove(gone)
        for path in gone:
            del self._kept[path]
        changed = sorted((path for path in present if self._kept.get(path) != present[path]), key=rank)
        for _, group in groupby(changed, key=rank):
            paths = list(group)
            buckets.at_once(lambda path: bucket.upload(self.folder / path, path), paths)
            self._kept |= {path: present[path] for path in paths}

    def remove(self, path: str) -> None:
        """Remove a file from where it is kept, and from the folder."""
        (self.folder / path).unlink(missing_ok=True)
        if self.bucket:
            self.bucket.remove([path])

    def write(self, path: str, content: bytes) -> None:
        """Keep a file that is not in the folder, whose disk may be full."""
        assert self.bucket is not None
        self.bucket.write(path, content)


def safe_targets(objects: Mapping[str, Object], folder: Path) -> dict[str, Path]:
    """Where each object goes below ``folder``. Names of objects are hostile until they have passed here.

    Raises:
        StorageRefusedError: a name that a folder cannot hold, or a name that is a file and a folder at once.
    """
    parents = {str(parent) for path in objects for parent in PurePosixPath(path).parents}
    for path in objects:
        parts = path.split("/")
        if any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts) or not path.isprintable():
            raise StorageRefusedError(f"an object has the name {path[:200]!r}, which no folder can hold; rename it")
        if path in parents:
            raise StorageRefusedError(f"{path!r} is an object and the folder of others; rename one of them")
    return {path: folder / path for path in objects}


def require_room(folder: Path, objects: Iterable[Object]) -> None:
    """FullError before the first byte, when the volume of ``folder`` cannot hold the objects."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sum(entry.size for entry in objects)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise FullError(errno.ENOSPC, folder, wanted)


def _files(folder: Path, but: Set[str]) -> dict[str, Stamp]:
    """Regular files below the folder, by their path in it, ``but`` those of some folders. Links are never kept."""
    found = {}
    for parent, folders, names in os.walk(folder):
        # Not even looked at: what is written there at this moment may be gone before it is.
        folders[:] = [name for name in folders if Path(parent, name).relative_to(folder).as_posix() not in but]
        for name in names:
            file = Path(parent, name)
            if not file.is_symlink():
                found[file.relative_to(folder).as_posix()] = _stamp(file)
    return found


def _stamp(file: Path) -> Stamp:
    seen = file.stat()
    return seen.st_size, seen.st_mtime_ns, seen.st_ino
