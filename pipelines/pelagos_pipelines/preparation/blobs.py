"""The image files of a store, named by their digests. Called by the step prepare and versions.py.

A file under its final name is complete and on disk: its content is synced before it gets the name, and names are synced before a
version that needs them is written. A killed process leaves partial files, which the next holder of the store removes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pelagos_contract import beneath, disk
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.annotations.untrusted_input import printable
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.preparation.integrity import Blob, Inspection
from pelagos_pipelines.preparation.locks import PARTIAL

_THREADS = 8
"""More than there are processors, because syncing waits for the disk, and file systems commit several files at once."""
_AT_ONCE = 32
"""Files that a thread writes before it syncs the first: the disk has begun to write the others by then."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_keeping = threading.Lock()


class SourceChangedError(Exception):
    """A file of the source changed while a version was created from it. Trying again helps."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A blob to be stored. ``fill`` writes it into an open descriptor and returns its sha256; ``source`` names it in messages."""

    sha256: str
    source: str
    fill: Callable[[int], str]


def path(blobs: Path, sha256: str) -> Path:
    """The path of a blob in a store's folder ``blobs``. Raises ValueError if ``sha256`` is not one."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256!r} is not a sha256")
    return blobs / f"{sha256[:2]}/{sha256[2:]}"


def content(blobs: Path, sha256: str) -> bytes:
    """The content of a blob, checked against its name.

    Raises:
        OSError: the blob does not exist, or is damaged.
    """
    found = path(blobs, sha256).read_bytes()
    if hashlib.sha256(found).hexdigest() != sha256:
        raise OSError(errno.EIO, "the image is damaged", f"{sha256[:12]}")
    return found


def keep(store: Path, one: Blob, content: bytes) -> None:
    """Store a blob for versions to come. Raises OSError, for example when the disk is full."""
    blobs = store / "blobs"

    def fill(descriptor: int) -> str:
        beneath.write(descriptor, content)
        return one.sha256

    # The folder is not synced here: `write` does that before a version names the blob.
    with _keeping:  # two files of a source may become the same blob at the same time
        path(blobs, one.sha256).parent.mkdir(parents=True, exist_ok=True)
        _write(str(blobs), [_Wanted(one.sha256, one.sha256, fill)])


def write(blobs: Path, tree: SourceFiles, sources: Mapping[Blob, str], inspections: Mapping[str, Inspection]) -> None:
    """Store all blobs of ``sources``, which has the path in the tree for each.

    Raises:
        SourceChangedError: an image has changed since it was inspected.
        OSError: a file could not be written, for example because the disk is full.
    """
    wanted = [
        _Wanted(one.sha256, source, functools.partial(_fill, tree, source, inspections[source]))
        for one, source in sources.items()
    ]
    folders = [blobs, *sorted({path(blobs, one.sha256).parent for one in wanted})]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    parts = [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(functools.partial(_write, str(blobs)), parts))
        # The folders hold the files' names. They are synced once at the end, not for each file.
        list(pool.map(sync_folder, folders))


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(tree: SourceFiles, source: str, inspection: Inspection, descriptor: int) -> str:
    """Write the blob for an image of the source, converted if necessary. Returns its sha256."""
    if inspection.converted is None:
        return tree.pour(source, descriptor)
    if source not in tree.known:
        raise SourceChangedError(f"{printable(source)} went from the store while the version was made; try again")
    longest = None if inspection.reduced is None else max(inspection.reduced)
    content = integrity.convert(tree, source, longest)
    beneath.write(descriptor, content)
    return hashlib.sha256(content).hexdigest()


def _write(blobs: str, wanted: Sequence[_Wanted]) -> None:
    """Copy the blobs that are missing or damaged. Sources are never linked, because their owner may edit a file in place."""
    new: list[tuple[int, str, str]] = []
    with contextlib.ExitStack() as stack:
        for one in wanted:
            folder, name = f"{blobs}/{one.sha256[:2]}", one.sha256[2:]
            target, partial = f"{folder}/{name}", f"{folder}/{PARTIAL}{name}"
            if os.path.exists(target) and _sha256(target) == one.sha256:  # noqa: PTH110 - creating a Path takes longer
                continue
            # Removes the partial file on errors, so that it does not keep a full disk full.
            stack.enter_context(disk.written(Path(partial)))
            descriptor = os.open(partial, _NEW, 0o666)
            stack.callback(os.close, descriptor)
            # The digest is taken from the bytes that were copied, because the source may change between two reads.
            if one.fill(descriptor) != one.sha256:
                raise SourceChangedError(f"{printable(one.source)} changed while the version was made; try again")
            new.append((descriptor, partial, target))
        for descriptor, partial, target in new:
            # Synced before it gets its name, because a file under that name is taken for complete.
            os.fsync(descriptor)
            os.replace(partial, target)  # noqa: PTH105
            # Only now: a partial file that is read-only, left by a killed process, would keep every later one from writing it.
            os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o444)  # read-only, within the umask


def _sha256(file: str) -> str:
    with open(file, "rb") as opened:  # noqa: PTH123
        return hashlib.file_digest(opened, "sha256").hexdigest()
