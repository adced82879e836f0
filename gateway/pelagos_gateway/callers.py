"""Limits per caller: requests per minute, and requests in progress. Called by ``judging``; the journal reports when calls end.

The counts do not survive a restart of this program or of Envoy. After one, callers can briefly exceed their limits, never less.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field

MOST_CALLERS = 20_000
"""Most callers kept in memory; the least recently active are dropped first."""
_MOST_ENDED = 4_096
"""Ended calls kept in memory, because the end of a call can be reported before its beginning."""
_MINUTE = 60.0
_SHARED = 2 / 3
"""Share of the upload places open to callers that already hold one; the rest are for callers without any."""


@dataclass(frozen=True)
class Limits:
    """Limits of one caller; ``all_uploads`` is that of all callers together."""

    per_minute: int
    at_once: int
    uploads: int = 3
    all_uploads: int = 12
    longest_call: float = 600.0
    """Seconds after which a call no longer counts as in progress, in case its end is never reported."""


@dataclass(frozen=True)
class Exceeded:
    """Which limit was exceeded, and after how many seconds to try again."""

    message: str
    retry_after: int


@dataclass
class _Caller:
    tokens: float
    seen: float
    calls: dict[str, float] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)


class Callers:
    """All callers and their calls. Times are of a monotonic clock, in seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._callers: OrderedDict[str, _Caller] = OrderedDict()
        self._of_call: dict[str, str] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._uploading: dict[str, float] = {}

    def begin(self, caller: str, call: str, now: float, *, is_upload: bool = False) -> Exceeded | None:
        """Count the call as begun and return None, or return the limit that forbids it."""
        limits = self._limits
        known = self._callers.setdefault(caller, _Caller(float(limits.per_minute), now))
        self._callers.move_to_end(caller)
        known.tokens = min(limits.per_minute, known.tokens + (now - known.seen) * limits.per_minute / _MINUTE)
        known.seen = now
        # Their ends were never reported: without this, they would use up the caller's limit for good.
        for old in [old for old, began in known.calls.items() if now - began > limits.longest_call]:
            self.end(old)
        if len(known.calls) >= limits.at_once:
            message = f"{len(known.calls)} of your requests are in progress, and {limits.at_once} are allowed at once"
            return Exceeded(f"{message}: wait for one of them to end", 1)
        if is_upload and (too_many := self._uploads(known, now)):
            return too_many
        if known.tokens < 1:
            wait = math.ceil((1 - known.tokens) * _MINUTE / limits.per_minute)
            message = f"you may send {limits.per_minute} requests per minute"
            return Exceeded(f"{message}: try again in {wait} s, and send several images in one request", wait)
        known.tokens -= 1
        # The client may have disconnected before this decision; then the journal has already reported the end.
        if call not in self._ended:
            known.calls[call] = now
            self._of_call[call] = caller
            if is_upload:
                known.uploads.add(call)
                self._uploading[call] = now
        self._forget()
        return None

    def end(self, call: str) -> None:
        """Count the call as ended, regardless of its outcome."""
        name = self._of_call.pop(call, None)
        if name is not None:
            self._callers[name].calls.pop(call, None)
            self._callers[name].uploads.discard(call)
            self._uploading.pop(call, None)
            return
        self._ended[call] = None
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def end_all(self) -> None:
        """Count all calls as ended: Envoy has disconnected."""
        self._of_call.clear()
        self._uploading.clear()
        for caller in self._callers.values():
            caller.calls.clear()
            caller.uploads.clear()

    @property
    def in_progress(self) -> int:
        """Number of calls in progress, of callers with limits."""
        return len(self._of_call)

    def _uploads(self, known: _Caller, now: float) -> Exceeded | None:
        """The upload limit that this caller would exceed with another long body; None when it may send one."""
        limits, mine = self._limits, len(known.uploads)
        if mine >= limits.uploads:
            why = f"{limits.uploads} are allowed at once"
        elif (
            mine
            and sum(now - began <= limits.longest_call for began in self._uploading.values())
            >= limits.all_uploads * _SHARED
        ):
            why = "others are also waiting"
        else:
            return None
        return Exceeded(
            f"{mine} of your bodies of more than a mebibyte are being sent, and {why}: wait for one of them", 1
        )

    def _forget(self) -> None:
        while len(self._callers) > MOST_CALLERS:
            _, caller = self._callers.popitem(last=False)
            for call in caller.calls:
                self._of_call.pop(call, None)
                self._uploading.pop(call, None)
