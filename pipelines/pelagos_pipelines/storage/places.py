"""A folder in which a step works, and the place where its files are kept: that folder itself, or a prefix of a bucket.

Steps open one for each parameter that names a place. For a plain folder, `pull` and `push` do nothing.
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
    """``folder`` is on this machine. ``bucket`` is where its files are kept, None when they are kept in the folder itself."""

    def __init__(self, uri: str, scratch: Path) -> None:
        """Open no connection yet. For a place on object storage, ``scratch`` becomes the folder, and is emptied first."""
        self.uri = uri.rstrip("/") if is_remote(uri) else uri
        self.bucket = Bucket(uri) if is_remote(uri) else None
        self.folder = scratch if self.bucket else Path(uri)
        self._kept: dict[str, Stamp] = {}
        self.changing: set[str] = set()
        """Folders that another process is writing to: `push` neither uploads nor removes anything below them."""
        if self.bucket:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)

    def kept_as(self, path: Path) -> str:
        """The address of ``path``, a file in the folder, for other steps: below the uri, or the path itself."""
        return f"{self.uri}/{path.relative_to(self.folder).as_posix()}" if self.bucket else str(path)

    def pull(self, wanted: Callable[[str], bool] = lambda path: True) -> None:
        """Download the kept files that ``wanted`` accepts by their path. For places that only our own steps write to."""
        if self.bucket is None:
            return
        bucket = self.bucket
        objects = {entry.path: entry for entry in bucket.list() if wanted(entry.path)}
        targets = safe_targets(objects, self.folder)
        require_room(self.folder, objects.values())
        buckets.at_once(lambda path: bucket.download(path, targets[path]), objects)
        self._kept |= {path: _stamp(target) for path, target in targets.items()}

    def push(self, wanted: Callable[[str], bool], rank: Callable[[str], int] = lambda path: 0) -> None:
        """Upload what changed since `pull` or the last `push`, and remove kept files that no longer exist in the folder.

        ``wanted`` decides which paths are kept. All files of a lower ``rank`` are uploaded before any of a higher one.
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
            # The stamps are from before the upload: a file that was changed since then is uploaded again by the next push.
            self._kept |= {path: present[path] for path in paths}

    def remove(self, path: str) -> None:
        """Remove a file from the folder and from the bucket."""
        (self.folder / path).unlink(missing_ok=True)
        if self.bucket:
            self.bucket.remove([path])

    def write(self, path: str, content: bytes) -> None:
        """Write a file to the bucket alone, for when the folder's disk may be full. Only for places on object storage."""
        assert self.bucket is not None
        self.bucket.write(path, content)


def safe_targets(objects: Mapping[str, Object], folder: Path) -> dict[str, Path]:
    """The path below ``folder`` for each object. Object names are untrusted until this has checked them.

    Raises:
        StorageRefusedError: a name cannot be a path in a folder, or names an object and a folder of others.
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
    """Raise FullError, before the first byte is written, when the volume of ``folder`` cannot hold the objects."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sum(entry.size for entry in objects)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise FullError(errno.ENOSPC, folder, wanted)


def _files(folder: Path, but: Set[str]) -> dict[str, Stamp]:
    """Stamps of the files below the folder, by path, except those in the folders ``but``. Symbolic links are never kept."""
    found = {}
    for parent, folders, names in os.walk(folder):
        # These folders are not even listed: a file that is being written there may be deleted before we stat it.
        folders[:] = [name for name in folders if Path(parent, name).relative_to(folder).as_posix() not in but]
        for name in names:
            file = Path(parent, name)
            if not file.is_symlink():
                found[file.relative_to(folder).as_posix()] = _stamp(file)
    return found


def _stamp(file: Path) -> Stamp:
    seen = file.stat()
    # With the inode, because a file that was replaced atomically may have the same size and time as the one before it.
    return seen.st_size, seen.st_mtime_ns, seen.st_ino
