"""Exports a version in another program's format: a view of it whose files are copies, so that they may be changed.

``python -m pelagos_pipelines.preparation.exporting URI VIEW TARGET`` is run by `pelagos export`. It prints one JSON object:
``images`` and ``altered`` (see dataset.Alteration), or ``error``. With a fourth argument ``described``, it reads a JSON object, a
`Wanted`, from standard input, and writes metadata documents beside the images; with ``-`` for VIEW it writes only those.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pelagos_contract.base import Strict
from pelagos_contract.disk import FullError
from pelagos_contract.failures import RefusedError
from pelagos_contract.metadata import Metadata
from pelagos_contract.splits import SPLITS
from pelagos_pipelines import storage
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.metadata import registry as documents
from pelagos_pipelines.metadata.content import Content, File
from pelagos_pipelines.metadata.registry import LackingError
from pelagos_pipelines.preparation import published, versions
from pelagos_pipelines.storage import StorageError, StorageRefusedError

NO_VIEW = "-"


class Wanted(Strict):
    """Documents of metadata beside a view, by their names; ``made`` is the day on which the version was created."""

    documents: list[str]
    metadata: Metadata
    dataset: str
    made: str
    doi: str | None = None


def export(uri: str, view: str, target: Path, wanted: Wanted | None = None) -> tuple[int, Altered]:
    """Write the version at ``uri`` into ``target``, which must be absent or empty. Returns the number of images, and alterations.

    All or nothing: whatever is at ``target`` is complete.

    Raises:
        RefusedError: DATASET_NOT_READABLE; TASK_MISMATCH when the view cannot hold the version's annotations.
        LackingError: the metadata lacks something that a document needs.
        FileExistsError: ``target`` is not empty.
        StorageError, StorageRefusedError: see storage.errors.
        OSError, FullError: it cannot be written; no part of it remains.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise _taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    _clear(target.parent, prefix)
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    held = os.open(partial, os.O_RDONLY)
    try:
        # Held until the end, so that `_clear` of another export does not take the folder for that of a killed one.
        fcntl.flock(held, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(prefix="pelagos-export-") as scratch:
            splits = () if view == NO_VIEW else SPLITS
            here = published.download(uri, Path(scratch), splits) if storage.is_remote(uri) else Path(uri)
            folder = partial / "view"
            altered = _view(here, view, folder)
            version = versions.read(here)
            linked = _linked(version, folder) if wanted is not None else {}
            _own(folder)
            if wanted is not None:
                _describe(version, folder, wanted, linked)
            images = len(version.collection.images)
        folder.chmod(0o755)
        try:
            folder.rename(target)  # also replaces an empty folder
        except OSError as error:  # another export may have been quicker
            raise (
                _taken(target) if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} else error
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)
    return images, altered


def described_view(here: Path, view: str, folder: Path, wanted: Wanted) -> Altered:
    """Create a view of a local version in ``folder``, with documents beside it. Its images may be links to blobs.

    Raises RefusedError and LackingError as `export` does.
    """
    altered = _view(here, view, folder)
    version = versions.read(here)
    _describe(version, folder, wanted, _linked(version, folder))
    return altered


def _view(here: Path, view: str, folder: Path) -> Altered:
    if view == NO_VIEW:
        folder.mkdir()
        return Altered()
    altered = versions.materialise(here, view, folder)
    (folder / versions.MARKER).unlink()
    return altered


def _linked(version: versions.Version, folder: Path) -> dict[str, str]:
    """The digests of the files that are links to blobs. Those were verified, so the files need not be read again."""
    digests = {_inode(blob): _digest(blob) for blob in version.blobs.values() if blob.exists()}
    found = ((file, digests.get(_inode(file))) for file in _paths_in(folder))
    return {file.relative_to(folder).as_posix(): digest for file, digest in found if digest is not None}


def _inode(file: Path) -> tuple[int, int]:
    stated = file.stat()
    return stated.st_dev, stated.st_ino


def _digest(blob: Path) -> str:
    """The digest of a blob, from its name."""
    return blob.parent.name + blob.name


def _describe(version: versions.Version, folder: Path, wanted: Wanted, known: Mapping[str, str]) -> None:
    """Write metadata documents into the folder of a view, which may be empty."""
    digests = {path: _digest(blob) for path, blob in version.blobs.items()}
    files = tuple(_files_in(folder, known))
    content = Content(
        metadata=wanted.metadata,
        dataset=wanted.dataset,
        version=version.digest,
        made=wanted.made,
        collection=version.collection,
        digests=digests,
        names=_names(version, digests, files),
        doi=wanted.doi,
        files=files,
    )
    documents.write(folder, wanted.documents, content)


def _files_in(folder: Path, known: Mapping[str, str]) -> Iterator[File]:
    """All files in the folder. Those with ``known`` digests are not read."""
    for file in _paths_in(folder):
        path = file.relative_to(folder).as_posix()
        digest = known.get(path)
        if digest is None:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        yield File(path, digest, file.stat().st_size)


def _paths_in(folder: Path) -> Iterator[Path]:
    for above, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(above, name) for name in sorted(names))


def _names(version: versions.Version, digests: Mapping[str, str], files: Iterable[File]) -> dict[str, str]:
    """The path of each image below the folder, found by digest. If the view has no images, their paths in the source."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(file.sha256, []).append(file.path)
    images = version.collection.images
    if not all(found.get(digests[image.path]) for image in images):
        return {image.path: image.path for image in images}
    # Identical images each have a file of their own, in the order in which views name them.
    return {image.path: _next(found[digests[image.path]]) for image in images}


def _next(paths: list[str]) -> str:
    return paths.pop(0) if len(paths) > 1 else paths[0]


def _taken(target: Path) -> FileExistsError:
    return FileExistsError(f"{target} is there already; name a folder that is empty or does not exist")


def _clear(above: Path, prefix: str) -> None:
    """Remove the folders of killed exports, whose locks are released, while those of running exports are still held."""
    for left in [path for path in above.iterdir() if path.name.startswith(prefix)]:
        held = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(held)


def _own(folder: Path) -> None:
    """Replace links to the store's blobs by copies: a change to a linked file would change every version that has it."""
    for file in [*_paths_in(folder)]:
        if file.stat().st_nlink > 1:
            copy = file.with_name(f".{file.name}.copy")
            shutil.copyfile(file, copy)
            copy.replace(file)
        file.chmod(0o644)


def main(arguments: Sequence[str]) -> int:
    """Export the version named on the command line, and print the result. Returns the exit code."""
    uri, view, target, *described = arguments
    answer: dict[str, Any]
    try:
        wanted = Wanted.model_validate_json(sys.stdin.buffer.read()) if described else None
        images, altered = export(uri, view, Path(target), wanted)
        answer = {"images": images, "altered": [each.model_dump(by_alias=True) for each in altered]}
    except RefusedError as error:
        answer = {"error": error.failure.message}
    except (StorageError, StorageRefusedError, OSError, FullError, LackingError) as error:
        answer = {"error": str(error)}
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    return "error" in answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
