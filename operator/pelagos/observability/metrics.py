"""Prometheus metrics of the operator: one prefix, base units, no label that grows with the number of resources."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pelagos.api.kinds import KINDS
from pelagos.ports.cluster import Resource

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RECONCILES = Counter("pelagos_reconciles_total", "Passes by kind and result.", ["kind", "result"], registry=REGISTRY)
RECONCILE_SECONDS = Histogram(
    "pelagos_reconcile_duration_seconds",
    "Duration of a pass.",
    ["kind"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUE_DEPTH = Gauge("pelagos_queue_depth", "Resources that wait for a pass.", registry=REGISTRY)
CALL_SECONDS = Histogram(
    "pelagos_outbound_call_duration_seconds",
    "Duration of calls to other systems.",
    ["system", "operation"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
CALL_ERRORS = Counter(
    "pelagos_outbound_call_errors_total",
    "Calls to other systems that failed.",
    ["system", "operation"],
    registry=REGISTRY,
)
PROBE_SECONDS = Histogram(
    "pelagos_model_probe_duration_seconds",
    "Latency of the synthetic inference of served models.",
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PROBES = Counter("pelagos_model_probes_total", "Synthetic inferences by outcome.", ["outcome"], registry=REGISTRY)


class ResourceCollector(Collector):
    """Counts resources when Prometheus asks, not at every pass."""

    def __init__(self, resources: Callable[[], Iterable[Resource]]) -> None:
        self._resources = resources

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Resources by kind and Ready, stalled ones by kind, and the progress of trainings under way."""
        ready = GaugeMetricFamily(
            "pelagos_resources", "Resources by kind and state of Ready.", labels=["kind", "ready"]
        )
        stalled = GaugeMetricFamily("pelagos_resources_stalled", "Resources that wait for a person.", labels=["kind"])
        progress = GaugeMetricFamily(
            "pelagos_training_progress_ratio", "Share of the epochs done.", labels=["namespace", "name"]
        )
        resources = tuple(self._resources())
        tally = Tally((resource.kind.kind, _condition(resource, "Ready")) for resource in resources)
        for (kind, state), number in sorted(tally.items()):
            ready.add_metric([kind, state], number)
        waiting = Tally(resource.kind.kind for resource in resources if _condition(resource, "Stalled") == "True")
        for known in KINDS:
            stalled.add_metric([known.kind], waiting[known.kind])
        for resource in resources:
            percent = (resource.status.get("progress") or {}).get("percent")
            if percent is not None and _condition(resource, "Ready") == "Unknown":
                progress.add_metric([resource.namespace, resource.name], percent / 100)
        yield from (ready, stalled, progress)


def _condition(resource: Resource, name: str) -> str:
    for condition in resource.status.get("conditions", ()):
        if condition.get("type") == name:
            return str(condition.get("status"))
    return "Unknown"


@contextmanager
def timed(system: str, operation: str) -> Iterator[None]:
    """Measure one call to another system."""
    started = time.perf_counter()
    try:
        yield
    except Exception:
        CALL_ERRORS.labels(system, operation).inc()
        raise
    finally:
        CALL_SECONDS.labels(system, operation).observe(time.perf_counter() - started)
