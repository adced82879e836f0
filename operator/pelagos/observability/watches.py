"""When the API server last sent anything on the watch of each kind: lists, events, and bookmarks, which come every minute.

A watch can go silent without an error. kopf ends one after 70 seconds without any data and opens another; what is seen here is
whether that works. A server that answers and refuses is another matter: that shows in /readyz, and a restart would not help.
Fed by handlers.listening.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from pelagos.observability import metrics

LONGEST_SILENCE = 200.0
"""Seconds: three bookmarks were missed, and kopf has opened another watch twice to no effect."""


class Watches:
    """Silence per kind, by the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._answering_since: float | None = None

    def expect(self, kinds: Collection[str]) -> None:
        """From now on there should be a watch of each of these kinds, and of no other."""
        # The metric of a kind that is no longer watched must go, or the alert about its age would fire for ever.
        for kind in self._heard.keys() - set(kinds):
            metrics.watch_ended(kind)
        now = self._clock()
        # A kind that is new counts as heard now: its watch has yet to be opened, and has the same time for it as any other.
        self._heard = {kind: self._heard.get(kind, now) for kind in kinds}
        self._refused = {kind: told for kind, told in self._refused.items() if kind in kinds}

    def answers(self, *, well: bool) -> None:
        """Whether the API server answers other requests."""
        # Since when, and not only whether: after an outage the watches need as long to come back as they may be silent.
        self._answering_since = (self._answering_since or self._clock()) if well else None

    def heard(self, kind: str) -> None:
        """The API server said something on the watch of this kind."""
        # Not of a kind that is not expected: kopf may still read the last bytes of a watch that is being ended.
        if kind in self._heard:
            metrics.watch_seen(kind)
            self._heard[kind] = self._clock()
            self._refused.pop(kind, None)

    def refused(self, kind: str, status: int) -> None:
        """The API server answered, and does not let us watch this kind, or not now."""
        if kind in self._heard:
            # A refusal is an answer. Taken for silence, it would have the operator restarted every few minutes, to no effect.
            self._heard[kind] = self._clock()
            self._refused[kind] = f"the API server refuses to list and watch {kind}: {status}"

    async def refusals(self) -> str | None:
        """What is refused, in words."""
        return "; ".join(self._refused.values()) or None

    def problem(self) -> str | None:
        """A watch that is silent although the API server has been answering long enough; None when there is none.

        /healthz fails by this, and the operator is restarted. While the API server does not answer at all, that would not help:
        an outage must not be taken for a fault of our own.
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
