"""Digests of the label files of a source: one that is edited to the same size within the same tick of a clock is seen.

Called by volumes for each file in each look. Times on a network share or a memory stick have a second or two, and tools
restore them; labels are small, so that their content can be asked instead. What cannot have changed since is not read again.
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
"""Of files that may hold labels."""
MAX_BYTES = 8 * 1024**2
"""A larger file is known by its size and time alone."""
MAX_FILES = 50_000
MAX_TOTAL = 256 * 1024**2
"""Files of one look, in the order of their names, and their bytes; those beyond are known by size and time alone."""
SETTLED = 3_000_000_000
"""Nanoseconds after a change in which another one might show the same time: FAT counts in two seconds."""
REMEMBERED = 50_000


class Budget:
    """What one look may still read. It depends on names and sizes only, so that every look reads the same files."""

    def __init__(self) -> None:
        self._files, self._bytes = MAX_FILES, MAX_TOTAL

    def allows(self, name: str, seen: os.stat_result) -> bool:
        """Whether the content of the file is looked at; counts it if so."""
        if name[name.rfind(".") :].lower() not in SUFFIXES or not stat.S_ISREG(seen.st_mode):
            return False
        if seen.st_size > MAX_BYTES or seen.st_size > self._bytes or not self._files:
            return False
        self._files -= 1
        self._bytes -= seen.st_size
        return True


class Digests:
    """Digests of contents, kept in 20 bytes each and what it takes to know that they still hold. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int, int, bytes]] = {}
        self._lock = Lock()

    def of(self, seen: os.stat_result, read: Callable[[], bytes]) -> str:
        """The digest of the file that ``seen`` describes; ``read`` gives its content."""
        key, state = (seen.st_dev, seen.st_ino), (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        known = self._known.get(key)
        if known is not None and known[:3] == state:
            return known[3].hex()
        now = time.time_ns()
        digest = hashlib.sha256(read()).digest()[:20]
        with self._lock:
            self._known.pop(key, None)
            # As git does with its index: what changed a moment ago could change again and show the same time.
            if now - max(seen.st_mtime_ns, seen.st_ctime_ns) > SETTLED:
                self._known[key] = (*state, digest)
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return digest.hex()
