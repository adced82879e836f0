"""Remembers the latest probe of every endpoint, so that frequent passes do not mean frequent probes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pelagos.observability import metrics
from pelagos.ports.clock import Clock
from pelagos.ports.serving import ObservedService, ProbeResult, Serving


@dataclass(frozen=True)
class Probed:
    """The latest probe of one life of one server."""

    identity: tuple[str, int, datetime]
    """Digest, restarts and ``changed_at`` of the server: any of them differs in another life."""
    result: ProbeResult
    at: float
    """Elapsed seconds of the clock when it was made."""
    wrong: int
    """Wrong answers in a row, this one included; 0 if it was correct."""


class Probes:
    """Probes at most once per ``interval``, except servers that were restarted or answered wrong: those in every pass."""

    def __init__(self, serving: Serving, clock: Clock, interval: timedelta) -> None:
        self._serving = serving
        self._clock = clock
        self._interval = interval
        self._latest: dict[str, Probed] = {}

    async def look(self, uid: str, service: ObservedService) -> Probed:
        """The latest probe of the server as it runs now, made here if there is none recent enough."""
        identity = (service.digest, service.restarts, service.changed_at)
        known = self._latest.get(uid)
        if known is not None and known.identity != identity:
            known = None
        if (
            known is not None
            and known.result.correct
            and self._clock.elapsed() - known.at < self._interval.total_seconds()
        ):
            return known
        result = await self._serving.probe(uid)
        metrics.probed(uid, correct=result.correct, latency=result.latency)
        wrong = 0 if result.correct else (known.wrong if known else 0) + 1
        probed = Probed(identity, result, self._clock.elapsed(), wrong)
        self._latest[uid] = probed
        return probed

    def forget(self, uid: str) -> None:
        """Drop the probe and the metrics of an endpoint that was removed."""
        self._latest.pop(uid, None)
        metrics.forget_probe(uid)
