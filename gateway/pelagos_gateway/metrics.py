"""The gateway's Prometheus metrics. No label identifies callers or their tokens."""

from __future__ import annotations

from collections.abc import Container

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """All metrics of the gateway, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pelagos_gateway_requests",
            "Requests that passed and ended, by service, right (open, trial, login), protocol and its code.",
            ["namespace", "service", "access", "protocol", "code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "pelagos_gateway_request_seconds",
            "From the first byte of a request that passed to the last byte of its answer.",
            ["namespace", "service", "protocol"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "pelagos_gateway_refused",
            "Requests that did not pass: 401 unknown caller, 403 not allowed, 404 no such service, 429 too many, 503 not now.",
            ["status"],
            registry=self.registry,
        )
        self.services = Gauge("pelagos_gateway_services", "Services that accept calls.", registry=self.registry)
        self.trials = Gauge("pelagos_gateway_trials", "Open trials.", registry=self.registry)
        self.in_progress = Gauge(
            "pelagos_gateway_in_progress", "Requests in progress of callers with limits.", registry=self.registry
        )
        self._streams = Gauge(
            "pelagos_gateway_streams",
            "Open streams, by service; no series for a service without any.",
            ["namespace", "service"],
            registry=self.registry,
        )
        self.streams_limit = Gauge(
            "pelagos_gateway_streams_limit",
            "Most streams that may be open; others are refused.",
            registry=self.registry,
        )
        self.stale = Gauge(
            "pelagos_gateway_stale",
            "1 while the API server cannot be watched or Envoy's configuration not be written, and the last known state applies.",
            ["kind"],
            registry=self.registry,
        )
        self.envoy = Gauge("pelagos_gateway_envoy_up", "1 while Envoy answers.", registry=self.registry)
        self.issuer = Counter(
            "pelagos_gateway_issuer_requests",
            "Requests to the issuer of tokens, by purpose and result.",
            ["what", "outcome"],
            registry=self.registry,
        )

    def ended(self, service: str, access: str, protocol: str, code: str, seconds: float) -> None:
        """Count a request that passed and has ended. ``service`` is ``namespace/name``."""
        namespace, _, name = service.partition("/")
        self._requests.labels(namespace, name, access, protocol, code).inc()
        self._seconds.labels(namespace, name, protocol).observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that did not pass."""
        self._refused.labels(str(int(status))).inc()

    def streams(self, service: str, count: int) -> None:
        """Show how many streams to a service are open."""
        namespace, _, name = service.partition("/")
        if count:
            self._streams.labels(namespace, name).set(count)
        else:
            # Removed here and not by `keep`, since a stream may end after its service has.
            self._streams.remove(namespace, name)

    def keep(self, services: Container[str]) -> None:
        """Remove the series of services, ``namespace/name``, that are no longer served; their last calls may end after that."""
        for family in (self._requests, self._seconds):
            for labels in [each for each in family._metrics if f"{each[0]}/{each[1]}" not in services]:
                family.remove(*labels)


METRICS = Metrics()
