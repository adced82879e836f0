"""A folder on the data volume. Links and paths never lead out of it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from pelagos_pipelines import storage
from pelagos_pipelines.annotations.hostile import few, printable
from pelagos_pipelines.annotations.model import Tree
from pelagos_pipelines.contract import Reason, RefusedError, VolumeSource
from pelagos_pipelines.storage import buckets, places
from pelagos_pipelines.storage.buckets import Object

FIELD = "source.volume.path"
MAX_FILES = 1_000_000
"""Of one source on object storage; as many as the operator looks at."""
_NOT_DATA = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found"})


def collect(source: VolumeSource, data_root: Path) -> Tree:
    """All files below the folder; hidden ones and those that operating systems add are left out.

    Raises:
        RefusedError: SOURCE_NOT_FOUND when the path is no folder below ``data_root``; FORMAT_INVALID for links that lead out of
            the folder and for names that are not UTF-8; SOURCE_EMPTY when there are no images.
    """
    root = _resolve(source.path, data_root)
    files: list[str] = []
    links: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_data(name))
        base = Path(folder)
        links += [str((base / name).relative_to(root)) for name in folders if (base / name).is_symlink()]
        for name in filter(_is_data, names):
            _sort_in(base / name, root, files, links)
    _refuse_names(files, links)
    tree = Tree(root, tuple(sorted(files)))
    if not tree.images and not tree.unreadable:
        raise RefusedError(
            Reason.SOURCE_EMPTY,
            f"{source.path!r} holds {len(files)} files and none of them is an image (.jpg, .jpeg, .png); add images",
            FIELD,
        )
    return tree


def bring(source: VolumeSource, data_root: str, scratch: Path) -> Path:
    """Download the folder that the source names from below the prefix ``data_root``; what is no data is left where it is.

    Returns the folder in ``scratch`` that stands for the data volume. ``collect`` then judges what is there.

    Raises:
        RefusedError: SOURCE_NOT_FOUND when there is nothing; FORMAT_INVALID for names that a folder cannot hold, and for more
            files than one source may have.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: the disk is full; known before the first byte is brought.
    """
    parts = [part for part in source.path.split("/") if part not in ("", ".")]
    if ".." in parts or source.path.startswith("/") or not source.path.isprintable():
        raise _not_found(source.path)
    folder = "/".join(parts)
    bucket = storage.Bucket(data_root)
    objects = {entry.path: entry for entry in bucket.list(folder) if _is_wanted(entry, folder)}
    _drop_markers(objects)
    if not objects:
        raise _not_found(source.path)
    if len(objects) > MAX_FILES:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"{source.path!r} holds {len(objects)} files, allowed are {MAX_FILES}; divide it into several datasets",
            FIELD,
        )
    try:
        targets = places.safe_targets(objects, scratch)
    except storage.StorageRefusedError as error:
        raise RefusedError(Reason.FORMAT_INVALID, str(error), FIELD) from error
    places.require_room(scratch, objects.values())
    buckets.at_once(lambda path: bucket.download(path, targets[path], etag=objects[path].etag), objects)
    return scratch


def _is_wanted(entry: Object, folder: str) -> bool:
    """Whether it is data, by the names below the source; the object that stands for the source itself is not."""
    if entry.path == folder:
        return False
    return all(map(_is_data, entry.path[len(folder) :].strip("/").split("/")))


def _drop_markers(objects: dict[str, Object]) -> None:
    """Leave out the empty objects that consoles make for folders; a listing names them like files."""
    parents = {str(parent) for path in objects for parent in PurePosixPath(path).parents}
    empty = [
        path
        for path, entry in objects.items()
        if entry.size == 0 and (path in parents or not PurePosixPath(path).suffix)
    ]
    for path in empty:
        del objects[path]


def _resolve(path: str, data_root: Path) -> Path:
    base = data_root.resolve()
    try:
        root = (base / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        root = None
    if root is None or not root.is_dir() or not root.is_relative_to(base) or Path(path).is_absolute():
        raise _not_found(path)
    return root


def _not_found(path: str) -> RefusedError:
    return RefusedError(
        Reason.SOURCE_NOT_FOUND,
        f"{path!r} is not a folder on the data volume; give a path relative to the volume's root, without '..' that leads"
        " out of it, and make sure that the files are there",
        FIELD,
    )


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_DATA


def _sort_in(path: Path, root: Path, files: list[str], links: list[str]) -> None:
    relative = path.relative_to(root).as_posix()
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        links.append(relative)
    elif path.is_file():
        files.append(relative)
    elif path.is_symlink():
        links.append(relative)


def _refuse_names(files: list[str], links: list[str]) -> None:
    if links:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"links to folders, to nothing or out of the source are not followed: {few(sorted(links))};"
            " put the files themselves there",
            FIELD,
        )
    odd = sorted(name for name in files if not _is_utf8(name))
    if odd:
        raise RefusedError(
            Reason.FORMAT_INVALID, f"file names are not UTF-8: {few(map(printable, odd))}; rename the files", FIELD
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
