"""Reads Kueue's view of runs' pods: Workloads, queue, position in the queue, and priorities. Called by `sight`.

It reads as much as our rights and the served kinds allow. Only `sight` calls it, and the results end up in its Facts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from pelagos.engines.kubeflow import facts, trimming
from pelagos.engines.kubeflow.facts import Body, Facts
from pelagos.engines.kubeflow.placement import PRIORITY_LABEL, QUEUE_LABEL
from pelagos.engines.kubeflow.preflight import MOST_PRIORITIES, PRIORITY_CLASSES
from pelagos.engines.kubernetes.objects import Collection
from pelagos.ports.clock import Clock
from pelagos.ports.errors import OutageError, RejectedError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
_KINDS = tuple(
    (Collection(group, "Workload", "workloads"), Collection(group, "LocalQueue", "localqueues"))
    for group in ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
)
_VISIBLE = tuple(
    Collection(f"visibility.kueue.x-k8s.io/{version}", "LocalQueue", "localqueues")
    for version in ("v1beta2", "v1beta1")
)
"""LocalQueues of Kueue's visibility API; newer versions first."""
_PODS = Collection("v1", "Pod", "pods")
MOST_PODS, MOST_WORKLOADS = 100, 1000
NAMESPACES = 1000
"""How many entries each cache keeps: of namespaces for Workloads, of queues for positions and stuck pods."""
PAUSE = timedelta(seconds=30)
"""Pause between two searches of a queue for a pod that holds quota without working."""
UNSEEN = timedelta(seconds=60)
"""How long positions are not requested again after that was refused, not served or failed, to save a request per look."""
FARTHEST = 1_000_000


class Objects(Protocol):
    """Reads Kubernetes objects; see KubernetesObjects."""

    async def list(
        self, kind: Collection, namespace: str = "", labels: Mapping[str, str] | None = None, *, most: int = 0
    ) -> Sequence[Mapping[str, Any]]:
        """At most ``most`` objects with all labels. Raises OutageError and RejectedError."""

    async def get(self, kind: Collection, namespace: str, name: str) -> Mapping[str, Any] | None:
        """One object; None when it does not exist. Raises as ``list`` does."""

    async def serves(self, kind: Collection) -> bool:
        """Whether the server knows the kind. Raises as ``list`` does."""


class Queues:
    """Reads for all runs of a namespace at once, at most once in ``shortest``."""

    def __init__(self, clock: Clock, shortest: timedelta) -> None:
        self._clock = clock
        self._shortest = shortest
        self._workloads: _Recent[str, tuple[Body, ...]] = _Recent(clock)
        self._stuck: _Recent[tuple[str, str], str] = _Recent(clock)
        self._places: _Recent[tuple[str, str], Mapping[str, int]] = _Recent(clock)

    async def look(self, objects: Objects, found: Facts) -> Facts:
        """``found`` with Kueue's facts added. Its Workloads must be those of the run that were admitted at the last look.

        Raises OutageError, and RejectedError when we may not read Workloads.
        """
        held = [pod for pod in found.pods if facts.is_held(pod)]
        queued = [pod for pod in found.pods if facts.labels(pod).get(QUEUE_LABEL) and not facts.has_ended(pod)]
        unknown = [pod for pod in queued if not any(map(facts.admitted_at, found.workloads_of(pod)))]
        for workloads, queues in _KINDS if held or unknown else ():
            if await objects.serves(workloads):
                there = await self._in_namespace(objects, workloads, found.namespace)
                found = _with_own(found, there, [*held, *queued])
                return await self._of_held(objects, queues, found, held) if held else found
        return found

    async def _of_held(self, objects: Objects, kind: Collection, found: Facts, held: Sequence[Body]) -> Facts:
        named = sorted({facts.text(facts.labels(pod).get(QUEUE_LABEL)) for pod in held} - {""})
        stuck = [await self._stuck_in(objects, found.namespace, queue) for queue in named]
        found = replace(found, stuck="; ".join(filter(None, stuck)), priorities=await _priorities(objects, held))
        for queue in named:
            found = replace(found, places={**found.places, **await self._places_in(objects, found.namespace, queue)})
            with suppress(RejectedError):  # without this right, waiting pods are still reported
                if await objects.get(kind, found.namespace, queue) is None:
                    found = replace(found, queue_is_missing=True)
        return found

    async def _in_namespace(self, objects: Objects, kind: Collection, namespace: str) -> tuple[Body, ...]:
        """All Workloads of a namespace. They carry no label of their owner, so they cannot be selected per run."""

        async def read() -> tuple[tuple[Body, ...], timedelta]:
            there = await objects.list(kind, namespace, most=MOST_WORKLOADS)
            return tuple(map(trimming.workload, there)), self._shortest

        return await self._workloads.get(namespace, read)

    async def _stuck_in(self, objects: Objects, namespace: str, queue: str) -> str:
        """The first pod of a queue that holds quota without working, in words; searched once for all runs that wait there."""

        async def read() -> tuple[str, timedelta]:
            pods = await objects.list(_PODS, namespace, {QUEUE_LABEL: queue}, most=MOST_PODS)
            return next(filter(None, (facts.is_stuck(pod, self._clock.now()) for pod in pods)), ""), PAUSE

        return await self._stuck.get((namespace, queue), read)

    async def _places_in(self, objects: Objects, namespace: str, queue: str) -> Mapping[str, int]:
        """The positions of a LocalQueue's Workloads, by name, counted from 1; empty when Kueue does not say."""

        async def read() -> tuple[Mapping[str, int], timedelta]:
            try:
                told = await _pending(objects, namespace, queue)
            except (OutageError, RejectedError):  # the visibility API is a separate server, behind Kubernetes'
                told = None
            return _places(told), UNSEEN if told is None else self._shortest

        return await self._places.get((namespace, queue), read)


class _Recent(Generic[Key, Value]):
    """A cache with a lifetime per value and at most NAMESPACES keys, of which the oldest is dropped."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Key, tuple[float, Value]] = {}

    async def get(self, key: Key, read: Callable[[], Awaitable[tuple[Value, timedelta]]]) -> Value:
        """The cached value, else that of ``read``, which returns a value and how long it is valid."""
        known = self._known.get(key)
        if known is not None and self._clock.elapsed() < known[0]:
            return known[1]
        value, lasts = await read()
        while len(self._known) >= NAMESPACES:
            del self._known[next(iter(self._known))]
        self._known[key] = (self._clock.elapsed() + lasts.total_seconds(), value)
        return value


async def _pending(objects: Objects, namespace: str, queue: str) -> Body | None:
    for kind in _VISIBLE:
        if await objects.serves(kind):
            return await objects.get(kind, namespace, f"{queue}/pendingworkloads")
    return None


def _places(told: Body | None) -> dict[str, int]:
    """Positions by name, counted from 1 (Kueue counts from 0); implausible ones are left out."""
    found = {facts.name(each): each.get("positionInClusterQueue") for each in facts.listed((told or {}).get("items"))}
    return {name: place + 1 for name, place in found.items() if name and type(place) is int and 0 <= place < FARTHEST}


async def _priorities(objects: Objects, held: Sequence[Body]) -> tuple[str, ...] | None:
    """The names of all priority classes, if a held pod names one; None when not needed, not readable or too many."""
    if not any(facts.labels(pod).get(PRIORITY_LABEL) for pod in held):
        return None
    try:
        found = await objects.list(PRIORITY_CLASSES, most=MOST_PRIORITIES)
    except (OutageError, RejectedError):
        return None
    return tuple(map(facts.name, found)) if len(found) < MOST_PRIORITIES else None


def _with_own(found: Facts, there: Sequence[Body], pods: Sequence[Body]) -> Facts:
    """``found`` with only the Workloads of the run's pods. ``has_queues`` is false when the list may have missed some."""
    seen = replace(found, workloads=tuple(there))
    own = {facts.name(each): each for pod in pods for each in (*found.workloads_of(pod), *seen.workloads_of(pod))}
    return replace(found, workloads=tuple(own.values()), has_queues=len(there) < MOST_WORKLOADS or bool(own))
