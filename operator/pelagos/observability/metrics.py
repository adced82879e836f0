"""Prometheus metrics of the operator's own work: one prefix, base units.

Metrics about resources are in resources.py. Here, the number of time series does not depend on the number of resources; there it
does for some, within limits.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from pelagos.observability.resources import Probe, ResourceCollector
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError

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
CALL_REJECTIONS = Counter(
    "pelagos_outbound_call_rejections_total",
    "Calls that another system refused: the request must change; the system itself works.",
    ["system", "operation"],
    registry=REGISTRY,
)
FENCED = Counter(
    "pelagos_fenced_calls_total",
    "Changes that were refused because this operator does not lead.",
    ["system", "operation"],
    registry=REGISTRY,
)
PROBE_SECONDS = Histogram(
    "pelagos_model_probe_duration_seconds",
    "Latency of the synthetic inference of served models.",
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
STAGE_SECONDS = Histogram(
    "pelagos_stage_duration_seconds",
    "How long a stage of a pipeline run took, by kind of its resource.",
    ["kind", "stage"],
    registry=REGISTRY,
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400),
)
LINES_LOST = Counter(
    "pelagos_step_lines_lost_total",
    "Ended pipeline runs of which the last lines of steps could not be kept, by cause.",
    ["cause"],
    registry=REGISTRY,
)
for _cause in ("refused", "not-ours", "too-large", "failed"):
    LINES_LOST.labels(_cause)
QUEUE_SECONDS = Histogram(
    "pelagos_queue_wait_seconds",
    "How long a step of a pipeline run waited until its queue admitted it, by kind of its resource.",
    ["kind", "queue"],
    registry=REGISTRY,
    buckets=(1, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 259200, 604800),
)
MOST_QUEUES = 200
"""Most queues with a separate label value; others share the empty one. Tenants can create any number of LocalQueues."""
MOST_ADMITTED = 5000
"""Most resources whose last admission is remembered."""
PROBES = Counter("pelagos_model_probes_total", "Synthetic inferences by outcome.", ["outcome"], registry=REGISTRY)
for _outcome in ("correct", "wrong"):
    PROBES.labels(_outcome)  # From 0 on, as the histogram: a ratio of series with different starts would be wrong.


LEADER = Gauge(
    "pelagos_leader",
    "Whether this operator leads (1) or waits for its turn (0), by the lease that it needs; none: it needs none.",
    ["lease"],
    registry=REGISTRY,
)
WATCH_SEEN = Gauge(
    "pelagos_watch_last_event_timestamp_seconds",
    "When the API server last sent something on the watch of a kind.",
    ["kind"],
    registry=REGISTRY,
)
KIND_SERVED = Gauge(
    "pelagos_kind_served",
    "Whether the API server serves a kind in a schema that fits (1), so that its resources are reconciled, or not (0).",
    ["kind"],
    registry=REGISTRY,
)
BUILD = Gauge("pelagos_build_info", "Version of the operator; always 1.", ["version"], registry=REGISTRY)
BUILD.labels(metadata.version("pelagos")).set(1)

_probes: dict[str, Probe] = {}
_queues: set[str] = set()
_admitted: OrderedDict[str, str] = OrderedDict()


def admitted(resource: Resource, queue: str, at: str, seconds: float) -> None:
    """A queue admitted a step of the resource ``at`` a time in status, after it had waited ``seconds``."""
    if _admitted.get(resource.uid) == at:
        return  # The same admission again, after the queue could not be observed for some time.
    _admitted[resource.uid] = at
    while len(_admitted) > MOST_ADMITTED:
        _admitted.popitem(last=False)
    if len(_queues) < MOST_QUEUES:
        _queues.add(queue)
    QUEUE_SECONDS.labels(resource.kind.kind, queue if queue in _queues else "").observe(seconds)


def watch_seen(kind: str) -> None:
    """The API server sent something on the watch of ``kind``: a list, an event, or a bookmark."""
    WATCH_SEEN.labels(kind).set_to_current_time()


def watch_ended(kind: str) -> None:
    """The watch of ``kind`` has ended for good, so its silence must not raise an alert."""
    with suppress(KeyError):
        WATCH_SEEN.remove(kind)


def serves(kinds: Iterable[str], working: Collection[str]) -> None:
    """Of all ``kinds``, those in ``working`` are served and reconciled."""
    for kind in kinds:
        KIND_SERVED.labels(kind).set(kind in working)


@dataclass
class _Standing:
    lease: str = ""


_standing = _Standing()


def competes(lease: str) -> None:
    """This operator competes for ``lease``; empty: it needs none. Operators for different shards have different ones."""
    LEADER.clear()
    _standing.lease = lease
    leads(leading=False)


def leads(*, leading: bool) -> None:
    """This operator has gained or lost leadership. One that needs no lease leads from its start."""
    LEADER.labels(_standing.lease).set(leading)


def probed(uid: str, *, correct: bool, latency: float) -> None:
    """A served model was probed; ``latency`` is in seconds."""
    PROBES.labels("correct" if correct else "wrong").inc()
    if correct:
        PROBE_SECONDS.observe(latency)
    before = _probes.get(uid)
    last = latency if correct else before.latency if before else None
    _probes[uid] = Probe(correct, last, time.time())


def forget_probe(uid: str) -> None:
    """Drop the last probe of an endpoint that was removed."""
    _probes.pop(uid, None)


def resource_collector(resources: Callable[[], Iterable[Resource]]) -> ResourceCollector:
    """A collector of metrics about resources and their last probes."""
    return ResourceCollector(resources, _probes)


_call_seconds = functools.cache(CALL_SECONDS.labels)
"""Cached, so that not every call has to look up its labels."""


@contextmanager
def timed(system: str, operation: str) -> Iterator[None]:
    """Measure one call to another system."""
    with _call_seconds(system, operation).time():
        try:
            yield
        except RejectedError:
            CALL_REJECTIONS.labels(system, operation).inc()
            raise
        except Exception:
            CALL_ERRORS.labels(system, operation).inc()
            raise
