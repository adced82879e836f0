"""Limits on concurrency and rate: one action at a time per person, few uploads in all, and few new trials per person."""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_STARTS, STARTS_SECONDS = 20, 600.0
"""Most Trials that the hub creates for one person within this time, since refused ones also stay in the cluster for some time."""
_MOST_PEOPLE = 20_000


class Turns:
    """Locks by name. ``uploading`` limits how many uploaded images are in memory."""

    def __init__(self, uploads: int) -> None:
        self.uploading = asyncio.Semaphore(uploads)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def of(self, what: str) -> asyncio.Lock:
        """The lock of this name, which exists as long as it is held or awaited."""
        lock = self._locks.get(what)
        if lock is None:
            lock = self._locks[what] = asyncio.Lock()
        return lock


class Starts:
    """Counts the trials that each person starts. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, person: str) -> bool:
        """Whether the person may start another trial now; if so, it is counted."""
        now, begun = self._clock(), self._begun.setdefault(person, deque())
        self._begun.move_to_end(person)
        while len(self._begun) > _MOST_PEOPLE:
            self._begun.popitem(last=False)
        while begun and now - begun[0] >= STARTS_SECONDS:
            begun.popleft()
        if len(begun) >= MOST_STARTS:
            return False
        begun.append(now)
        return True
