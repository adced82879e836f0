"""Digests of a source's label files, which reveal even an edit of the same size within the same tick of a clock.

Called by volumes for each file in each look. Times on a network share or a USB stick have a resolution of a second or two, and
tools restore them. Label files are small, so their content is compared instead. What cannot have changed is not read again.
"""

from __future__ import annotations

import hashlib
import stat
import time
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

SUFFIXES = frozenset({".txt", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".csv", ".tsv", ".xml", ".names"})
"""Suffixes of files that may contain labels."""
MAX_BYTES = 8 * 1024**2
"""A larger file is identified only by its size and time."""
MAX_FILES = 50_000
MAX_TOTAL = 256 * 1024**2
"""Files, and their bytes in total, that one look reads in the order of names; the others are identified by size and time."""
SETTLED = 3_000_000_000
"""Nanoseconds within which a second change might get the same time: FAT has a resolution of two seconds."""
REMEMBERED = 50_000


class Budget:
    """The files and bytes that one look may read. It depends only on names and sizes, so that every look reads the same files."""

    def __init__(self) -> None:
        self._files, self._bytes = MAX_FILES, MAX_TOTAL

    def allows(self, name: str, seen: os.stat_result) -> bool:
        """Whether the content of the file may be read; if so, it is counted."""
        if name[name.rfind(".") :].lower() not in SUFFIXES or not stat.S_ISREG(seen.st_mode):
            return False
        if seen.st_size > MAX_BYTES or seen.st_size > self._bytes or not self._files:
            return False
        self._files -= 1
        self._bytes -= seen.st_size
        return True


class Digests:
    """A cache of digests, of 20 bytes each, with the file state for which each holds. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int, int, bytes]] = {}
        self._lock = Lock()

    def of(self, seen: os.stat_result, read: Callable[[], bytes]) -> str:
        """The digest, in hex, of the file that ``seen`` describes; ``read`` returns its content if it is needed."""
        key, state = (seen.st_dev, seen.st_ino), (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        known = self._known.get(key)
        if known is not None and known[:3] == state:
            return known[3].hex()
        now = time.time_ns()
        digest = hashlib.sha256(read()).digest()[:20]
        with self._lock:
            self._known.pop(key, None)
            # As git does for its index: a file that changed a moment ago could change again and keep the same time.
            if now - max(seen.st_mtime_ns, seen.st_ctime_ns) > SETTLED:
                self._known[key] = (*state, digest)
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return digest.hex()
