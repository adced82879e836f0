"""Whether the files of a version's images are what their names say. Called by versions.py, with their paths as texts.

To make an object of a file takes longer than to read a small one, and versions have as many as sources have images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

verified: dict[str, bytes] = {}
"""By the digest of a version, the state of its files when this process last read them: trainings do so, and then link them."""
_THREADS = 8
_AT_ONCE = 256
"""Files that a thread is given: to hand over each takes longer than to read a small one."""
_LARGE = 1 << 15
"""Bytes of a file in the mean from which on several threads are worth having: they wait for each other at every file."""
_CHUNK = 1 << 20
_DIGITS = 65
"""Of the name of a blob, with its folder."""


def state(files: Iterable[str]) -> bytes:
    """Another one once a file is written, linked or exchanged, all of which the kernel dates. Raises OSError."""
    digest = hashlib.sha256()
    for file in files:
        seen = os.stat(file)  # noqa: PTH116
        digest.update(
            b"%d %d %d %d %d\n" % (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        )
    return digest.digest()


def first_damaged(files: Sequence[str]) -> str | None:
    """The first file that is not what its name says. Raises OSError."""
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
