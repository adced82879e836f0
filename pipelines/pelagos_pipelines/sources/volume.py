"""A folder on the data volume. Links and paths never lead out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pelagos_pipelines import beneath, storage
from pelagos_pipelines.annotations import hostile
from pelagos_pipelines.annotations.hostile import few, printable
from pelagos_pipelines.annotations.model import Tree
from pelagos_pipelines.beneath import MAX_DEPTH, ChangedError, Folder, Listing, NoFileError
from pelagos_pipelines.contract import Reason, RefusedError, VolumeSource
from pelagos_pipelines.storage import buckets, places
from pelagos_pipelines.storage.buckets import Object

FIELD = "source.volume.path"
MAX_FILES = 1_000_000
"""Files and folders of one source; as many as the operator looks at."""
_NOT_DATA = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found"})


def collect(source: VolumeSource, data_root: Path) -> Tree:
    """All files below the folder; hidden ones and those that operating systems add are left out.

    Raises:
        RefusedError: SOURCE_NOT_FOUND when the path is no folder below ``data_root``; SOURCE_NOT_READABLE for what our account
            may not read; FORMAT_INVALID for links that lead out of the folder, names that are not UTF-8, folders that are too
            deep and too many files; SOURCE_EMPTY when there are no images.
    """
    folder, root = _open(source.path, data_root)
    found = folder.look(_is_data, MAX_FILES)
    if found.entries > MAX_FILES:
        raise _too_many(source.path, f"more than {MAX_FILES}")
    links = {path: target for path in found.links if (target := _inner(root, path, folder)) is not None}
    _refuse(found, [path for path in found.links if path not in links])
    tree = Tree(folder, tuple(sorted([*found.files, *links])), links, tuple(_left_out(found)))
    if not tree.images and not tree.unreadable:
        raise RefusedError(
            Reason.SOURCE_EMPTY,
            f"{source.path!r} holds {len(tree.files)} files and none of them is an image (.jpg, .jpeg, .png); add images",
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
        raise _too_many(source.path, str(len(objects)))
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


def _open(path: str, data_root: Path) -> tuple[Folder, Path]:
    """The folder, and where it lies. Links on the way to it may lead about the volume: they are resolved, then not followed."""
    base = data_root.resolve()
    try:
        root = (base / path).resolve(strict=True)
        if Path(path).is_absolute() or not root.is_relative_to(base):
            raise _not_found(path)
        return Folder(base, root.relative_to(base).as_posix()), root
    except PermissionError as error:
        raise hostile.closed([path]) from error
    except (OSError, ValueError, RuntimeError, NoFileError, ChangedError) as error:
        raise _not_found(path) from error


def _inner(root: Path, link: str, folder: Folder) -> str | None:
    """The file of the source that a link leads to; None when it leads elsewhere.

    Nothing is opened through the link: by the time the file is read it may lead to another place.
    """
    path = beneath.resolved(root, link)
    return path if path is not None and folder.is_file(path) else None


def _not_found(path: str) -> RefusedError:
    return RefusedError(
        Reason.SOURCE_NOT_FOUND,
        f"{path!r} is not a folder on the data volume; give a path relative to the volume's root, without '..' that leads"
        " out of it, and make sure that the files are there",
        FIELD,
    )


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_DATA


def _too_many(path: str, count: str) -> RefusedError:
    return RefusedError(
        Reason.FORMAT_INVALID,
        f"{path!r} holds {count} files and folders, allowed are {MAX_FILES}; divide it into several datasets",
        FIELD,
    )


def _refuse(found: Listing, links: list[str]) -> None:
    if found.closed:
        raise hostile.closed(sorted(found.closed))
    if found.deep:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"{len(found.deep)} folders hold folders more than {MAX_DEPTH} deep: {few(sorted(found.deep))}; move their files up",
            FIELD,
        )
    if links:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"links to folders, to nothing or out of the source are not followed: {few(sorted(links))};"
            " put the files themselves there",
            FIELD,
        )
    odd = sorted(name for name in (*found.files, *found.links, *found.special) if not _is_utf8(name))
    if odd:
        raise RefusedError(
            Reason.FORMAT_INVALID, f"file names are not UTF-8: {few(map(printable, odd))}; rename the files", FIELD
        )


def _left_out(found: Listing) -> Iterator[str]:
    if found.special:
        yield f"{len(found.special)} pipes, sockets or devices are left out: {few(sorted(found.special))}"


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
