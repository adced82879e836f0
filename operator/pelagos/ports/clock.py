"""Clock: the time of day, which tests can set, and durations that remain right even if it is set.

The time of day jumps: people set it, NTP does after a start with a flat battery, and a restored machine has an old one. Durations
are therefore measured by a monotonic clock (``elapsed``). Something that began outside this process has a time of day only. Its
age is measured from when it was first seen here, and only the part before that is taken from the time of day (``age``).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from typing_extensions import override

REMEMBERED = 20_000
"""How many moments are remembered; the least recently used ones are forgotten first."""


def monotonic() -> float:
    """Seconds by a clock that keeps running while the machine sleeps, and that nobody can set."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Clock(Protocol):
    """Two clocks: the time of day, and one for durations."""

    def now(self) -> datetime:
        """The time of day in UTC, for people and records. Not for durations: it may be set between two calls."""

    def elapsed(self) -> float:
        """Seconds since an arbitrary moment, by a monotonic clock that keeps running while the machine sleeps."""

    def age(self, what: Hashable, moment: datetime, *, once: bool = False) -> timedelta:
        """How long ago ``what`` happened, at a ``moment`` that was noted by a time of day.

        Never less than the time since this was first called for it, so that setting the clock back extends no pause. The part
        before that is taken from the time of day. It is never more than is plausible, and is reduced if the time of day is
        corrected later, so that setting the clock forward makes nothing overdue. With another ``moment`` it has happened again,
        unless it can happen only ``once``.
        """


@dataclass
class _Known:
    moment: datetime
    first: float
    latest: float
    before: float


class Aging:
    """Implements Clock.age for subclasses that implement the rest of Clock."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()

    def age(self: _Tells, what: Hashable, moment: datetime, *, once: bool = False) -> timedelta:
        """See Clock."""
        elapsed, told = self.elapsed(), max((self.now() - moment).total_seconds(), 0.0)
        known = self._known.get(what)
        if known is None:
            known = self._known[what] = _Known(moment, elapsed, elapsed, told)
        elif known.moment != moment and not once:
            # It has happened again since the last call, so it cannot be older than that.
            known = self._known[what] = _Known(moment, elapsed, elapsed, min(told, elapsed - known.latest))
        known.before = min(known.before, max(told - (elapsed - known.first), 0.0))
        known.latest = elapsed
        self._known.move_to_end(what)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return timedelta(seconds=known.before + elapsed - known.first)


class _Tells(Protocol):
    _known: OrderedDict[Hashable, _Known]

    def now(self) -> datetime: ...

    def elapsed(self) -> float: ...


class SystemClock(Aging, Clock):
    """Implements Clock with the machine's clocks."""

    @override
    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)

    @override
    def elapsed(self) -> float:
        return monotonic()


class FakeClock(Aging, Clock):
    """Implements Clock for tests, which move the time."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now
        self._elapsed = 0.0

    @override
    def now(self) -> datetime:
        """The time of day that the test set."""
        return self._now

    @override
    def elapsed(self) -> float:
        """The time that the test let pass."""
        return self._elapsed

    def set(self, now: datetime) -> None:
        """Let time pass until it is ``now``."""
        self._elapsed += max((now - self._now).total_seconds(), 0.0)
        self._now = now

    def jump(self, by: timedelta) -> None:
        """Set the time of day to another one, as people and NTP do, without letting time pass."""
        self._now += by
