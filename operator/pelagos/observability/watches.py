"""When the API server last said something on the watch of each kind: lists, events and bookmarks, which come every minute.

A watch can go silent without an error. kopf ends one after 70 seconds without a word and begins anew; what is seen here is
whether that works. Fed by handlers.listening.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pelagos.observability import metrics

LONGEST_SILENCE = 200.0
"""Seconds: three bookmarks were missed, and kopf began anew twice to no effect."""


class Watches:
    """Silence per kind, by the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}

    def expect(self, kinds: Iterable[str]) -> None:
        """From now on there should be a watch of each of these kinds."""
        self._heard = dict.fromkeys(kinds, self._clock())

    def forget(self) -> None:
        """Nothing is watched any more."""
        self._heard = {}

    def heard(self, kind: str) -> None:
        """The API server said something on the watch of this kind."""
        metrics.watch_seen(kind)
        if kind in self._heard:
            self._heard[kind] = self._clock()

    def problem(self, answering_since: float | None) -> str | None:
        """A watch that is silent although the API server has been answering long enough; None when there is none.

        ``answering_since`` (monotonic; None: it does not answer now) keeps an outage from being taken for our own fault: a new
        start would not help.
        """
        if answering_since is None:
            return None
        now = self._clock()
        for kind, heard in self._heard.items():
            if now - max(heard, answering_since) > LONGEST_SILENCE:
                return f"the watch of {kind} has been silent for {now - heard:.0f} s, and the API server answers"
        return None


WATCHES = Watches()
"""Of this process."""
