"""The hub's Prometheus metrics: never by person, and by route instead of URL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """Metrics of one hub, in a separate registry, so that tests are independent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("pelagos_hub_requests", "Requests answered.", ["route", "code"], registry=self.registry)
        self.seconds = Histogram(
            "pelagos_hub_request_seconds",
            "Time to the end of an answer, by route.",
            ["route"],
            buckets=(0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.logins = Counter(
            "pelagos_hub_logins",
            "Logins by result: Done, Refused (by the provider, or its answer was invalid), Failed (it did not answer).",
            ["result"],
            registry=self.registry,
        )
        self.trials = Counter(
            "pelagos_hub_trials",
            "Trials that people asked for, by result: Made, Refused (by the cluster), Failed (it did not answer).",
            ["result"],
            registry=self.registry,
        )
        self.sessions = Gauge("pelagos_hub_sessions", "People who are logged in.", registry=self.registry)
        self.silence = Gauge(
            "pelagos_hub_cluster_silence_seconds",
            "Seconds since the API server last reported anything about a kind; -1: never.",
            ["kind"],
            registry=self.registry,
        )
        for result in ("Done", "Refused", "Failed"):
            self.logins.labels(result)
        for result in ("Made", "Refused", "Failed"):
            self.trials.labels(result)


class Middleware:
    """Counts and times requests by the route that answered them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, code = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            return await self._app(scope, receive, noted)
        finally:
            # All requests without a route share one label, or anyone could create series without end.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, code).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
