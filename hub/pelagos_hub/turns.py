"""Who may do what at the same time: one thing after the other of each person, and few uploads of all; and how often."""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_STARTS, STARTS_SECONDS = 20, 600.0
"""Trials that the hub makes for one person in so long: also one that is refused stays in the cluster for a while."""
_MOST_PEOPLE = 20_000


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


class Starts:
    """Counts what each person begins. ``clock`` only goes on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, person: str) -> bool:
        """Whether one more may begin now, which then counts."""
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
