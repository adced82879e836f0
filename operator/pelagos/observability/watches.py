"""When the API server last sent anything on the watch of each kind: a list, an event, or a bookmark, which comes every minute.

A watch can fall silent without an error. kopf ends one after 70 seconds without any data and opens another; this detects when
that does not work. A server that answers with a refusal is a different case: it shows in /readyz, because a restart would not
help. Fed by handlers.listening.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from pelagos.observability import metrics

LONGEST_SILENCE = 200.0
"""Seconds until a silent watch counts as stuck. By then, three bookmarks are missing, and kopf has reopened it twice in vain."""


class Watches:
    """Keeps track of the watch of each kind, by a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._answering_since: float | None = None

    def expect(self, kinds: Collection[str]) -> None:
        """From now on, there should be a watch of each of these kinds, and of no other."""
        # The metric of a kind that is no longer watched is removed, or the alert about its age would fire forever.
        for kind in self._heard.keys() - set(kinds):
            metrics.watch_ended(kind)
        now = self._clock()
        # A new kind counts as heard now: its watch has yet to be opened, and may take as long for that as any other.
        self._heard = {kind: self._heard.get(kind, now) for kind in kinds}
        self._refused = {kind: told for kind, told in self._refused.items() if kind in kinds}

    def answers(self, *, well: bool) -> None:
        """Note whether the API server answers other requests."""
        # Since when, and not only whether: after an outage, watches may take as long to return as they may be silent.
        self._answering_since = (self._answering_since or self._clock()) if well else None

    def heard(self, kind: str) -> None:
        """The API server sent something on the watch of this kind."""
        # Ignored for a kind that is not expected: kopf may still be reading the last bytes of a watch that is being ended.
        if kind in self._heard:
            metrics.watch_seen(kind)
            self._heard[kind] = self._clock()
            self._refused.pop(kind, None)

    def refused(self, kind: str, status: int) -> None:
        """The API server answered that we may not watch this kind, or not now."""
        if kind in self._heard:
            # A refusal is an answer. If it counted as silence, the operator would be restarted every few minutes, in vain.
            self._heard[kind] = self._clock()
            self._refused[kind] = f"the API server refuses to list and watch {kind}: {status}"

    async def refusals(self) -> str | None:
        """A description of the watches that are refused; None when none is. A readiness.Check."""
        return "; ".join(self._refused.values()) or None

    def problem(self) -> str | None:
        """A watch that has been silent too long while the API server was answering; None when there is none.

        It makes /healthz fail, so that the operator is restarted. While the API server does not answer at all, that would not
        help: an outage is not our own failure.
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
"""The watches of this process."""
