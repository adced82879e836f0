"""A folder on the data volume, or an archive, which is unpacked. Links and paths never lead out of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pelagos_contract import beneath
from pelagos_contract.beneath import MAX_DEPTH, ChangedError, Folder, Listing, NoFileError, Opened
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.sources import VOLUME, VolumeSource
from pelagos_pipelines import storage
from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles, suffix
from pelagos_pipelines.annotations.untrusted_input import closed, format_names, is_encodable, printable
from pelagos_pipelines.sources import archives
from pelagos_pipelines.sources.place import Place
from pelagos_pipelines.storage import buckets, places
from pelagos_pipelines.storage.buckets import Object

FIELD = "source.volume.path"
MAX_FILES = 1_000_000
"""Most files and folders of one source, the same limit as in the operator."""
_NOT_DATA = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "network trash folder",
        "temporary items",
        "lost+found",
        "lost.dir",
    }
    | {"$recycle.bin", "recycler", "system volume information", "@eadir", "#recycle", "#snapshot", "@tmp"}
    | {"@recycle", "@recently-snapshot", "@snapshot", "@__thumb", "_gsdata_"}
    | {"__pycache__", "wandb", "mlruns", "node_modules", "venv"}
)
_FOUND = re.compile(r"found\.[0-9]{3}")
"""Names that operating systems, storage appliances and tools add, beside hidden files and backup copies of editors.

In lower case, since Windows writes both ``$RECYCLE.BIN`` and ``$Recycle.Bin``.
"""


def collect(source: VolumeSource, data_root: Path) -> SourceFiles:
    """All files below the folder; hidden files and those of operating systems and tools are excluded by name.

    Raises:
        RefusedError: SOURCE_NOT_FOUND when the path is not a folder below ``data_root``; SOURCE_NOT_READABLE without permission;
            FORMAT_INVALID for links that lead out of the folder, names that are not UTF-8, folders that are too deep and too many
            files; SOURCE_EMPTY when there are no images.
    """
    folder, root = _open(source.path, data_root)
    return collected(source.path, folder, root)


def collected(path: str, folder: Folder, root: Path, field: str = FIELD) -> SourceFiles:
    """The files below the open ``folder`` at ``root``; messages call it ``path``, from ``field``. Raises as ``collect``."""
    found = folder.look(_is_data, MAX_FILES)
    if found.entries > MAX_FILES:
        raise _too_many(path, f"more than {MAX_FILES}", field)
    # Nothing is opened through a link, which may lead elsewhere by the time a file is read. A link is resolved once to a file of
    # the source, which is then opened by its own path below the folder's descriptor.
    targets = {path: beneath.resolved(root, path) for path in found.links}
    links = {path: target for path, target in targets.items() if target is not None and folder.is_file(target)}
    _refuse(found, [path for path in found.links if path not in links], field)
    warnings = []
    if found.special:
        names = format_names(sorted(found.special))
        warnings.append(f"{len(found.special)} pipes, sockets or devices are left out: {names}")
    if found.bare:
        warnings.append(f"{len(found.bare)} folders are empty: {format_names(sorted(found.bare))}")
    # Everything found is accounted for from here on, at least as excluded, so that the counts of files add up.
    tree = SourceFiles(
        folder,
        tuple(sorted([*found.files, *links])),
        links,
        tuple(warnings),
        (*_excluded(found.unwanted, ExclusionReason.HIDDEN), *_excluded(found.special, ExclusionReason.NOT_A_FILE)),
        named_by=field,
    )
    tree = replace(tree, disguised=frozenset(filter(lambda path: _is_disguised(tree, path), tree.files)))
    if not tree.images:
        count = len(found.unwanted)
        hidden = f" beside {count} that are hidden or in folders of tools" if count else ""
        raise RefusedError(
            Reason.SOURCE_EMPTY,
            f"{path!r} holds {len(tree.files)} files{hidden} and none of them is an image (.jpg, .png, .tif, .bmp, .webp, .jp2);"
            " add images",
            field,
        )
    return tree


def obtain(source: VolumeSource, data_root: str, scratch: Path) -> SourceFiles:
    """The files of the folder, or copies below ``scratch`` if the data volume is on object storage or the source is an archive.

    Raises:
        RefusedError: see `collect`, `download` and `archives.unpack`.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: see `download`.
    """
    if archives.kind_of(source.path) is not None:
        with _archive(source.path, data_root, scratch) as opened:
            if opened is not None:
                return _unpacked(source.path, opened, scratch)
    if not storage.is_remote(data_root):
        return collect(source, Path(data_root))
    left = download(source, data_root, scratch)
    tree = collect(source, scratch)
    return replace(tree, excluded=(*tree.excluded, *left))


@contextmanager
def _archive(path: str, data_root: str, scratch: Path) -> Iterator[Opened | None]:
    """Open the archive; None if a folder has this name, or nothing has."""
    if storage.is_remote(data_root):
        name = _plain(path)
        bucket = storage.Bucket(data_root)
        found = bucket.find(name)
        if found is None:
            yield None
            return
        places.require_room(scratch, [found])
        bucket.download(name, scratch / "archive", etag=found.etag)
        with Folder(scratch).open("archive") as opened:
            # Unlinked now, so that its space is free as soon as it is closed, before images are read.
            (scratch / "archive").unlink()
            yield opened
        return
    base = Path(data_root).resolve()
    real = _resolved(path, base)
    if not real.is_file():
        yield None
        return
    with ExitStack() as held:
        try:
            folder = Folder(base, real.parent.relative_to(base).as_posix())
            opened = held.enter_context(folder.open(real.name))
        except PermissionError as error:
            raise closed([path]) from error
        except NoFileError as error:
            raise _not_found(path) from error
        yield opened


def _unpacked(path: str, opened: Opened, scratch: Path) -> SourceFiles:
    found = archives.unpack(path, opened, scratch / "unpacked", MAX_FILES, FIELD)
    tree = collected(path, Folder(found.folder), found.folder)
    return replace(
        tree,
        excluded=(*tree.excluded, *Exclusion.of(found.beside, ExclusionReason.HIDDEN)),
        warnings=(*tree.warnings, *found.warnings),
    )


def download(source: VolumeSource, data_root: str, scratch: Path) -> tuple[Exclusion, ...]:
    """Download the source's folder from below the prefix ``data_root``, without objects that are not data.

    ``scratch`` then serves as the data volume, and ``collect`` checks its content. Returns the skipped objects.
    Raises:
        RefusedError: SOURCE_NOT_FOUND when there is nothing; FORMAT_INVALID for invalid file names, and for more files than one
            source may have.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: the disk is full, which is checked before the first byte is downloaded.
    """
    return bring(storage.Bucket(data_root), _plain(source.path), scratch, (source.path, FIELD))


def bring(bucket: storage.Bucket, folder: str, scratch: Path, named: tuple[str, str]) -> tuple[Exclusion, ...]:
    """Download a folder of a bucket; ``named`` is its name and its field for messages. Raises as ``download``."""
    path, field = named
    found = [entry for entry in bucket.list(folder) if entry.path != folder]
    # Only names below the source are checked, as on a volume; the folders above it may have any name.
    objects = {entry.path: entry for entry in found if all(map(_is_data, _below(entry.path, folder).split("/")))}
    hidden = [entry.path for entry in found if entry.path not in objects]
    empty = _drop_markers(objects)
    if not objects:
        raise _not_found(path) if field == FIELD else nothing(path, field)
    if len(objects) > MAX_FILES:
        raise _too_many(path, str(len(objects)), field)
    try:
        targets = places.safe_targets(objects, scratch)
    except storage.StorageRefusedError as error:
        raise RefusedError(Reason.FORMAT_INVALID, str(error), field) from error
    places.require_room(scratch, objects.values())
    buckets.at_once(lambda name: bucket.download(name, targets[name], etag=objects[name].etag), objects)
    return (
        *_excluded((_below(path, folder) for path in hidden), ExclusionReason.HIDDEN),
        *_excluded((_below(path, folder) for path in empty), ExclusionReason.NOT_AN_IMAGE),
    )


def nothing(path: str, field: str) -> RefusedError:
    """The refusal of a missing source that is not on the data volume."""
    return RefusedError(
        Reason.SOURCE_NOT_FOUND, f"there is nothing at {path!r}; correct it, or put the images there", field
    )


def _below(path: str, folder: str) -> str:
    return path[len(folder) :].strip("/")


def _drop_markers(objects: dict[str, Object]) -> list[str]:
    """Remove the empty objects that consoles create for folders, which a listing names like files.

    Returns those without anything below them, which may also be empty files.
    """
    parents = {str(parent) for path in objects for parent in PurePosixPath(path).parents}
    empty = [
        path
        for path, entry in objects.items()
        if entry.size == 0 and (path in parents or not PurePosixPath(path).suffix)
    ]
    for path in empty:
        del objects[path]
    return [path for path in empty if path not in parents]


def _plain(path: str) -> str:
    """The normalized path below the prefix. Raises RefusedError for one that leads out of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or path.startswith("/") or not path.isprintable():
        raise _not_found(path)
    return "/".join(parts)


def _open(path: str, data_root: Path) -> tuple[Folder, Path]:
    """Open the folder; returns it and its resolved path.

    Links on the way may lead elsewhere on the volume. They are resolved once, and the resolved path is opened from the volume's
    root without following links, so that a link that is exchanged in between has no effect.
    """
    base = data_root.resolve()
    root = _resolved(path, base)
    try:
        return Folder(base, root.relative_to(base).as_posix()), root
    except PermissionError as error:
        raise closed([path]) from error
    except (OSError, NoFileError, ChangedError) as error:
        raise _not_found(path) from error


def _resolved(path: str, base: Path) -> Path:
    """The resolved path, which must be below the resolved ``base``. Raises RefusedError otherwise."""
    try:
        found = (base / path).resolve(strict=True)
    except PermissionError as error:
        raise closed([path]) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_found(path) from error
    if Path(path).is_absolute() or not found.is_relative_to(base):
        raise _not_found(path)
    return found


def _not_found(path: str) -> RefusedError:
    return RefusedError(
        Reason.SOURCE_NOT_FOUND,
        f"{path!r} is neither a folder nor an archive ({archives.NAMES}) on the data volume; give a path relative to the"
        " volume's root, without '..' that leads out of it, and make sure that the files are there",
        FIELD,
    )


def _is_data(name: str) -> bool:
    if name.startswith(".") or name.endswith("~"):
        return False
    lower = name.lower()
    return lower not in _NOT_DATA and _FOUND.fullmatch(lower) is None


def _excluded(paths: Iterable[str], reason: ExclusionReason) -> Iterator[Exclusion]:
    """Exclusions of paths, escaped to valid UTF-8, since file names may be any bytes."""
    return (Exclusion(os.fsencode(path).decode("utf-8", "backslashreplace"), reason) for path in paths)


def _is_disguised(tree: SourceFiles, path: str) -> bool:
    """Whether a file is an image by its first bytes. Only files with an ambiguous suffix are opened, since there can be a
    million."""
    if not kinds.is_doubtful(suffix(path)):
        return False
    with tree.open(path) as opened:
        return kinds.is_image(os.read(opened.descriptor, kinds.BEGINNING))


def _too_many(path: str, count: str, field: str) -> RefusedError:
    return RefusedError(
        Reason.FORMAT_INVALID,
        f"{path!r} holds {count} files and folders, allowed are {MAX_FILES}; divide it into several datasets",
        field,
    )


def _refuse(found: Listing, links: list[str], field: str) -> None:
    """Refuse unsafe entries; ``links`` are those that are not followed."""
    if found.closed:
        raise closed(sorted(found.closed))
    if found.deep:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"{len(found.deep)} folders hold folders more than {MAX_DEPTH} deep:"
            f" {format_names(sorted(found.deep))}; move their files up",
            field,
        )
    if links:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"links to folders, to nothing or out of the source are not followed: {format_names(sorted(links))};"
            " put the files themselves there",
            field,
        )
    odd = sorted(name for name in (*found.files, *found.links, *found.special) if not is_encodable(name))
    if odd:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"file names are not UTF-8: {format_names(map(printable, odd))}; rename the files",
            field,
        )


PLACE = Place(VOLUME, obtain)
