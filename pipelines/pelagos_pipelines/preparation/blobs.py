"""The files of images in a store, which have their digests as names. Called by the step prepare and versions.py.

What has its name is whole and on the disk: its content is synced before it is named, and names are synced before a version is
written that needs them. Whoever is killed leaves parts, which the next one that holds the store removes.
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
"""Syncing waits for the disk, not for the processor; file systems write the journal for several files at once."""
_AT_ONCE = 32
"""Files that a thread writes before it syncs the first: the disk has begun with the others by then."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_keeping = threading.Lock()


class SourceChangedError(Exception):
    """A file of the source changed while a version was made of it. Trying again helps."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A blob that is to be in the store; ``fill`` writes it into an open file and tells its sha256, ``source`` is for people."""

    sha256: str
    source: str
    fill: Callable[[int], str]


def path(blobs: Path, sha256: str) -> Path:
    """Where a blob is in the folder ``blobs`` of a store. ValueError for what is no sha256."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256!r} is not a sha256")
    return blobs / f"{sha256[:2]}/{sha256[2:]}"


def content(blobs: Path, sha256: str) -> bytes:
    """What a blob holds, which is what its name says.

    Raises:
        OSError: it is not there, or damaged.
    """
    found = path(blobs, sha256).read_bytes()
    if hashlib.sha256(found).hexdigest() != sha256:
        raise OSError(errno.EIO, "the image is damaged", f"{sha256[:12]}")
    return found


def keep(store: Path, one: Blob, content: bytes) -> None:
    """Have a blob in the store of which a version may be made. Raises OSError when the disk is full, among others."""
    blobs = store / "blobs"

    def fill(descriptor: int) -> str:
        beneath.write(descriptor, content)
        return one.sha256

    with _keeping:  # two files of a source may become the same
        path(blobs, one.sha256).parent.mkdir(parents=True, exist_ok=True)
        _write(str(blobs), [_Wanted(one.sha256, one.sha256, fill)])


def write(blobs: Path, tree: SourceFiles, sources: Mapping[Blob, str], inspections: Mapping[str, Inspection]) -> None:
    """Have in ``blobs`` all images of ``sources``, paths in the tree by what they become.

    Raises:
        SourceChangedError: an image is not what it was when it was inspected.
        OSError: the disk is full, among others.
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
        # Their names are in the folders, which are synced once all are there, not once for each.
        list(pool.map(sync_folder, folders))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(tree: SourceFiles, source: str, inspection: Inspection, descriptor: int) -> str:
    """Write what versions hold of an image of the source; its sha256."""
    if inspection.converted is None:
        return tree.pour(source, descriptor)
    if source not in tree.known:
        raise SourceChangedError(f"{printable(source)} went from the store while the version was made; try again")
    longest = None if inspection.reduced is None else max(inspection.reduced)
    content = integrity.convert(tree, source, longest)
    beneath.write(descriptor, content)
    return hashlib.sha256(content).hexdigest()


def _write(blobs: str, wanted: Sequence[_Wanted]) -> None:
    """Copy those of which no undamaged copy is there. Never a link: the owner of the source may edit a file in place."""
    new: list[tuple[int, str, str]] = []
    with contextlib.ExitStack() as stack:
        for one in wanted:
            folder, name = f"{blobs}/{one.sha256[:2]}", one.sha256[2:]
            target, partial = f"{folder}/{name}", f"{folder}/{PARTIAL}{name}"
            if os.path.exists(target) and _sha256(target) == one.sha256:  # noqa: PTH110 - to make a path takes longer
                continue
            # What did not fit on a full disk must not keep it full.
            stack.enter_context(disk.written(Path(partial)))
            descriptor = os.open(partial, _NEW, 0o666)
            stack.callback(os.close, descriptor)
            # The digest is of the bytes that were copied, not of the source: it may change between two looks at it.
            if one.fill(descriptor) != one.sha256:
                raise SourceChangedError(f"{printable(one.source)} changed while the version was made; try again")
            new.append((descriptor, partial, target))
        for descriptor, partial, target in new:
            # Synced before it has its name: whoever finds a blob by it in full size takes it for whole.
            os.fsync(descriptor)
            os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o444)  # what the umask leaves
            os.replace(partial, target)  # noqa: PTH105


def _sha256(file: str) -> str:
    with open(file, "rb") as opened:  # noqa: PTH123
        return hashlib.file_digest(opened, "sha256").hexdigest()
