"""Who may do what at the same time: one thing after the other of each person, and few uploads of all."""

from __future__ import annotations

import asyncio
import weakref


class Turns:
    """``uploading``: a turn of all whose images are in memory."""

    def __init__(self, uploads: int) -> None:
        self.uploading = asyncio.Semaphore(uploads)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def of(self, what: str) -> asyncio.Lock:
        """The one lock of this name, as long as anybody holds or awaits it."""
        lock = self._locks.get(what)
        if lock is None:
            lock = self._locks[what] = asyncio.Lock()
        return lock
