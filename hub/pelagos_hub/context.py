"""Shared state of all pages, created once per process and reached through the request."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

if TYPE_CHECKING:
    import jinja2
    from starlette.requests import Request

    from pelagos_hub.cluster import Cluster, Listing
    from pelagos_hub.login.local import Link
    from pelagos_hub.login.oidc import Provider
    from pelagos_hub.login.sessions import Sessions
    from pelagos_hub.observing import Metrics
    from pelagos_hub.probes import Probes
    from pelagos_hub.settings import Settings
    from pelagos_hub.shelf import Shelf
    from pelagos_hub.turns import Starts, Turns


class Clock(Protocol):
    """Wall-clock time for people, and monotonic time for durations."""

    def now(self) -> datetime:
        """The current time in UTC."""

    def elapsed(self) -> float:
        """Monotonic seconds."""


class SystemClock(Clock):
    """The machine's clocks; the monotonic one also counts while the machine sleeps, where the system has such a clock."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)

    @override
    def elapsed(self) -> float:
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Hub:
    """Everything that pages use."""

    settings: Settings
    cluster: Cluster
    clock: Clock
    sessions: Sessions
    templates: jinja2.Environment
    metrics: Metrics
    provider: Provider | None
    """The OpenID provider; None without one."""
    link: Link
    turns: Turns
    starts: Starts
    shelf: Shelf
    probes: Probes

    def staleness(self, listing: Listing) -> str:
        """How old the objects on a page are and why, in words; empty while they are current."""
        if not listing.problem:
            return ""
        if listing.heard is None:
            return "The cluster has not answered yet. This page will show the models as soon as it does."
        return (
            f"The cluster does not answer. You see its state of {duration(self.clock.elapsed() - listing.heard)} ago."
        )


def hub(request: Request) -> Hub:
    """The Hub of this request's application."""
    found: Hub = request.app.state.hub
    return found


def duration(seconds: float) -> str:
    """A duration in its largest unit, rounded down: ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
