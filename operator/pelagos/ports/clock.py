"""Clock: the time, so that decisions can be tested at any time of day, and durations that hold whatever is done to the time.

The time of day is set back and forth: by people, by NTP after a start with a flat battery, by a restored machine. Durations are
therefore counted by a monotonic clock (``elapsed``). What began outside of this process bears a time of day alone; how long
ago that was is measured from when it was first seen here, and only what was before is taken from the time of day (``age``).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

REMEMBERED = 20_000
"""Moments whose ages are kept; the ones that were asked for least recently go first."""


def monotonic() -> float:
    """Seconds that pass also while the machine sleeps, and that setting the clock does not change."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Clock(Protocol):
    """Two clocks: the time of day, and one for durations."""

    def now(self) -> datetime:
        """The time of day in UTC, for people and for records. Two of them tell no duration: it may have been set in between."""

    def elapsed(self) -> float:
        """Seconds since some moment in the past, by a monotonic clock that runs also while the machine sleeps."""

    def age(self, what: Hashable, moment: datetime, *, once: bool = False) -> timedelta:
        """How long ago ``what`` came about at ``moment``, which was noted by a time of day.

        Never less than since it was first asked for here, so that a clock that was set back stretches no pause. What was before
        is what the time of day says, never more than is plausible, and less when the time of day is put right later, so that a
        clock that was set forward lets nothing be overdue that is not. At another moment it came about again, unless it can do
        so only ``once``.
        """


@dataclass
class _Known:
    moment: datetime
    first: float
    latest: float
    before: float


class Aging:
    """The ages of a clock; see Clock.age. Classes that tell the time inherit it."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()

    def age(self: _Tells, what: Hashable, moment: datetime, *, once: bool = False) -> timedelta:
        """See Clock."""
        elapsed, told = self.elapsed(), max((self.now() - moment).total_seconds(), 0.0)
        known = self._known.get(what)
        if known is None:
            known = self._known[what] = _Known(moment, elapsed, elapsed, told)
        elif known.moment != moment and not once:
            # It has come about again since it was last asked for.
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


class SystemClock(Aging):
    """The machine's clocks."""

    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """See Clock."""
        return monotonic()


class FakeClock(Aging):
    """Clocks that tests move."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now
        self._elapsed = 0.0

    def now(self) -> datetime:
        """The time of day that the test set."""
        return self._now

    def elapsed(self) -> float:
        """The time that the test let pass."""
        return self._elapsed

    def set(self, now: datetime) -> None:
        """Let time pass until it is ``now``."""
        self._elapsed += max((now - self._now).total_seconds(), 0.0)
        self._now = now

    def jump(self, by: timedelta) -> None:
        """Set the time of day to another one, as people and NTP do: no time passes."""
        self._now += by
