"""Checks that the files of a version's images match the digests in their names. Called by versions.py.

Paths are strings here: creating a Path takes longer than reading a small file, and a version has as many files as images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

verified: dict[str, bytes] = {}
"""By a version's digest, the state of its files when this process last read them. Trainings verify files and then link them."""
_THREADS = 8
_AT_ONCE = 256
"""Files per task of a thread: passing one on takes longer than reading a small one."""
_LARGE = 1 << 15
"""Mean bytes per file from which on several threads are faster: they wait for each other at every file."""
_CHUNK = 1 << 20
_DIGITS = 65
"""Characters at the end of a blob's path that form its digest, with the slash after the folder."""


def state(files: Iterable[str]) -> bytes:
    """A digest that changes when a file is written, linked or replaced, all of which the kernel dates. Raises OSError."""
    digest = hashlib.sha256()
    for file in files:
        seen = os.stat(file)  # noqa: PTH116
        digest.update(
            b"%d %d %d %d %d\n" % (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        )
    return digest.digest()


def first_damaged(files: Sequence[str]) -> str | None:
    """The first file whose content does not match its name, or None. Raises OSError."""
    batches = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
    if sum(os.stat(file).st_size for file in files[:_AT_ONCE]) < _LARGE * len(files[:_AT_ONCE]):  # noqa: PTH116
        return next(filter(None, map(_damaged, batches)), None)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as pool:
        return next(filter(None, pool.map(_damaged, batches)), None)


def _damaged(files: Iterable[str]) -> str | None:
    for file in files:
        digest = hashlib.sha256()
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while content := os.read(descriptor, _CHUNK):
                digest.update(content)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != file[-_DIGITS:].replace("/", ""):
            return file
    return None
