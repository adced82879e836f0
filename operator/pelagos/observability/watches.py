"""When the API server last said something on the watch of each kind: lists, events and bookmarks, which come every minute.

A watch can go silent without an error. kopf ends one after 70 seconds without a word and begins anew; what is seen here is
whether that works. A server that answers and refuses is another matter: that is told, and a new start would not help. Fed by
handlers.listening.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from pelagos.observability import metrics

LONGEST_SILENCE = 200.0
"""Seconds: three bookmarks were missed, and kopf began anew twice to no effect."""


class Watches:
    """Silence per kind, by the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._answering_since: float | None = None

    def expect(self, kinds: Collection[str]) -> None:
        """From now on there should be a watch of each of these kinds, and of no other."""
        for kind in self._heard.keys() - set(kinds):
            metrics.watch_ended(kind)
        now = self._clock()
        self._heard = {kind: self._heard.get(kind, now) for kind in kinds}
        self._refused = {kind: told for kind, told in self._refused.items() if kind in kinds}

    def answers(self, *, well: bool) -> None:
        """Whether the API server answers other questions."""
        self._answering_since = (self._answering_since or self._clock()) if well else None

    def heard(self, kind: str) -> None:
        """The API server said something on the watch of this kind."""
        if kind in self._heard:
            metrics.watch_seen(kind)
            self._heard[kind] = self._clock()
            self._refused.pop(kind, None)

    def refused(self, kind: str, status: int) -> None:
        """The API server answered, and does not let us watch this kind, or not now."""
        if kind in self._heard:
            self._heard[kind] = self._clock()
            self._refused[kind] = f"the API server refuses to list and watch {kind}: {status}"

    async def refusals(self) -> str | None:
        """What is refused, in words."""
        return "; ".join(self._refused.values()) or None

    def problem(self) -> str | None:
        """A watch that is silent although the API server has been answering long enough; None when there is none.

        While it does not answer, a new start would not help: an outage must not be taken for our own fault.
        """
        answering_since = self._answering_since
        if answering_since is None:
            return None
        now = self._clock()
        for kind, heard in self._heard.items():
            if now - max(heard, answering_since) > LONGEST_SILENCE:
                return f"the watch of {kind} has been silent for {now - heard:.0f} s, and the API server answers"
        return None


WATCHES = Watches()
"""Of this process."""
