"""How long to wait for a server, and when to ask it again."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


class FetchError(Exception):
    """A server does not answer, or cannot serve the request now. Trying the step again helps."""


@dataclass(frozen=True)
class Patience:
    """Timeouts and pauses in seconds, and the number of tries. ``total`` bounds everything that one client does.

    ``longest`` bounds a pause that a server asks for. ``slowest``: a download with fewer bytes per second over a minute has hung.
    """

    connect: float = 15.0
    read: float = 60.0
    total: float = 12 * 3600.0
    tries: int = 6
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest: float = 120.0
    slowest: float = 1024.0


class Deadline:
    """The time at which a client gives up, by a monotonic clock."""

    def __init__(
        self,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start the clock: the deadline is ``patience.total`` seconds from now."""
        self.patience = patience
        self.clock, self._sleep = clock, sleep
        self._end = clock() + patience.total

    def require(self, doing: str) -> None:
        """Raise FetchError when there is no time left."""
        if self.clock() >= self._end:
            raise FetchError(f"{doing}: it took longer than {self.patience.total:.0f} s in all, and is given up")

    def pause(self, seconds: float, doing: str) -> None:
        """Wait. Raises FetchError instead when the time left is too short for it."""
        if self.clock() + seconds >= self._end:
            raise FetchError(
                f"{doing}: the server asks for a pause of {seconds:.0f} s, and there is no time left for it"
            )
        self._sleep(seconds)

    def back_off(self, tried: int) -> float:
        """Seconds to wait after ``tried`` failed tries: doubled each time, with jitter so that clients do not retry together."""
        patience = self.patience
        longest: float = min(patience.first_pause * 2 ** (tried - 1), patience.longest_pause)
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - spreads load


def asked_pause(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait by a Retry-After header, which may be a date; None when it cannot be understood."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
