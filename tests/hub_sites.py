"""A hub in this process, asked over HTTP as by a browser: clients keep cookies; forms carry the fields of the last page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import httpx2
from starlette.applications import Starlette

import catalogued
from pelagos_hub.app import make_app
from pelagos_hub.cluster import MemoryCluster
from pelagos_hub.context import Hub
from pelagos_hub.login import sessions
from pelagos_hub.login.identity import Person
from pelagos_hub.settings import Settings

URL = "http://127.0.0.1:8088"


class FakeClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 6, 1, 12, tzinfo=UTC)
        self.seconds = 1000.0

    def now(self) -> datetime:
        """The time of day, as the test set it."""
        return self.moment

    def elapsed(self) -> float:
        """Monotonic seconds, as the test set them."""
        return self.seconds


class Site:
    """One hub and its visitors."""

    def __init__(self, **settings: Any) -> None:
        self.cluster = MemoryCluster()
        self.clock = FakeClock()
        self.cluster.heard = self.clock.seconds
        self.app: Starlette = make_app(Settings(**settings), self.cluster, self.clock)

    @property
    def hub(self) -> Hub:
        """The hub behind its pages."""
        hub: Hub = self.app.state.hub
        return hub

    def signed_in(self, person: Person) -> httpx2.AsyncClient:
        """A browser in which ``person`` is logged in."""
        number, _ = self.hub.sessions.begin(person)
        return self.visitor(cookies={sessions.cookie_name(self.hub.settings): number})

    def visitor(self, **more: Any) -> httpx2.AsyncClient:
        """A browser without a session."""
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url=self.hub.settings.origin, **more)


def hidden(page: str, name: str = "csrf") -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name} in {page}"
    return found[1]


def service(name: str, namespace: str = "reef", *, publish: str = "Public", **status: Any) -> dict[str, Any]:
    """A Ready ModelService, in a catalogue unless it is Private."""
    made = catalogued.served(name, namespace, catalogue=publish)
    return {**made, "status": {**made["status"], **status}}
