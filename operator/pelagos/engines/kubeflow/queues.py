"""What Kueue shows of the pods of runs: their Workloads, their queue, their place in it, and priorities. Called by `sight`.

Each right and each kind that is there tells something. Nobody but `sight` knows it: what is seen is in its Facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import Any, Protocol

from pelagos.engines.kubeflow import facts, trimming
from pelagos.engines.kubeflow.facts import Body, Facts
from pelagos.engines.kubeflow.placement import PRIORITY_LABEL, QUEUE_LABEL
from pelagos.engines.kubeflow.preflight import MOST_PRIORITIES, PRIORITY_CLASSES
from pelagos.engines.kubernetes.objects import Collection
from pelagos.ports.clock import Clock
from pelagos.ports.errors import OutageError, RejectedError

_KINDS = tuple(
    (Collection(group, "Workload", "workloads"), Collection(group, "LocalQueue", "localqueues"))
    for group in ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
)
_VISIBLE = tuple(
    Collection(f"visibility.kueue.x-k8s.io/{version}", "LocalQueue", "localqueues")
    for version in ("v1beta2", "v1beta1")
)
"""Newer versions of Kueue first."""
_PODS = Collection("v1", "Pod", "pods")
MOST_PODS, MOST_WORKLOADS = 100, 1000
NAMESPACES = 1000
"""Of which is kept what waits in their queues; and queues of which is kept who has which place."""
PAUSE = timedelta(seconds=30)
"""Between two looks for a pod that keeps quota for no work."""
UNSEEN = timedelta(seconds=60)
"""For so long nobody is asked for places where that is refused, not served or out of order: it costs a request at each look."""
FARTHEST = 1_000_000


class Objects(Protocol):
    """Reads objects of the Kubernetes API; see KubernetesObjects."""

    async def list(
        self, kind: Collection, namespace: str = "", labels: Mapping[str, str] | None = None, *, most: int = 0
    ) -> Sequence[Mapping[str, Any]]:
        """Those with all labels, no more than ``most``. Raises OutageError and RejectedError."""

    async def get(self, kind: Collection, namespace: str, name: str) -> Mapping[str, Any] | None:
        """One of them; None when it is not there. Raises as ``list``."""

    async def serves(self, kind: Collection) -> bool:
        """Whether there is such a kind. Raises as ``list``."""


class Queues:
    """Reads for all runs of a namespace at once, and no oftener than ``shortest`` says."""

    def __init__(self, clock: Clock, shortest: timedelta) -> None:
        self._clock = clock
        self._shortest = shortest
        self._workloads: dict[str, tuple[float, tuple[Body, ...]]] = {}
        self._stuck: dict[tuple[str, str], tuple[float, str]] = {}
        self._places: dict[tuple[str, str], tuple[float, Mapping[str, int]]] = {}

    async def look(self, objects: Objects, found: Facts) -> Facts:
        """``found`` with what is seen; the Workloads in it are those of the run that were admitted when they were seen last.

        Raises OutageError, and RejectedError where Workloads may not be seen.
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
            with suppress(RejectedError):  # without this right what waits is told all the same
                if await objects.get(kind, found.namespace, queue) is None:
                    found = replace(found, queue_is_missing=True)
        return found

    async def _in_namespace(self, objects: Objects, kind: Collection, namespace: str) -> tuple[Body, ...]:
        """All that Kueue has in a namespace: its Workloads do not say whose they are by a label."""
        now = self._clock.elapsed()
        at, known = self._workloads.get(namespace, (-inf, ()))
        if now - at >= self._shortest.total_seconds():
            known = tuple(map(trimming.workload, await objects.list(kind, namespace, most=MOST_WORKLOADS)))
            while len(self._workloads) >= NAMESPACES:
                del self._workloads[next(iter(self._workloads))]
            self._workloads[namespace] = (self._clock.elapsed(), known)
        return known

    async def _stuck_in(self, objects: Objects, namespace: str, queue: str) -> str:
        """The first pod of a queue that takes quota for no work, looked for once for all runs that wait there."""
        now = self._clock.elapsed()
        at, known = self._stuck.get((namespace, queue), (-inf, ""))
        if now - at >= PAUSE.total_seconds():
            pods = await objects.list(_PODS, namespace, {QUEUE_LABEL: queue}, most=MOST_PODS)
            known = next(filter(None, (facts.is_stuck(pod, self._clock.now()) for pod in pods)), "")
            while len(self._stuck) >= NAMESPACES:
                del self._stuck[next(iter(self._stuck))]
            self._stuck[namespace, queue] = (now, known)
        return known

    async def _places_in(self, objects: Objects, namespace: str, queue: str) -> Mapping[str, int]:
        """Which place the Workloads of a LocalQueue have, by name; empty where nobody says. A place that is not known is none."""
        now = self._clock.elapsed()
        until, known = self._places.get((namespace, queue), (-inf, {}))
        if now >= until:
            try:
                told, pause = await _pending(objects, namespace, queue), self._shortest
            except (OutageError, RejectedError):  # a server of its own, behind Kubernetes'
                told = None
            if told is None:
                pause = UNSEEN
            known = _places(told)
            while len(self._places) >= NAMESPACES:
                del self._places[next(iter(self._places))]
            self._places[namespace, queue] = (self._clock.elapsed() + pause.total_seconds(), known)
        return known


async def _pending(objects: Objects, namespace: str, queue: str) -> Body | None:
    for kind in _VISIBLE:
        if await objects.serves(kind):
            return await objects.get(kind, namespace, f"{queue}/pendingworkloads")
    return None


def _places(told: Body | None) -> dict[str, int]:
    """Kueue counts from 0."""
    found = {facts.name(each): each.get("positionInClusterQueue") for each in facts.listed((told or {}).get("items"))}
    return {name: place + 1 for name, place in found.items() if name and type(place) is int and 0 <= place < FARTHEST}


async def _priorities(objects: Objects, held: Sequence[Body]) -> tuple[str, ...] | None:
    """The names of all, where a pod bears one; None when they cannot be seen."""
    if not any(facts.labels(pod).get(PRIORITY_LABEL) for pod in held):
        return None
    try:
        found = await objects.list(PRIORITY_CLASSES, most=MOST_PRIORITIES)
    except (OutageError, RejectedError):
        return None
    return tuple(map(facts.name, found)) if len(found) < MOST_PRIORITIES else None


def _with_own(found: Facts, there: Sequence[Body], pods: Sequence[Body]) -> Facts:
    """With those Workloads that are of the run's pods. More than are read there may be others."""
    seen = replace(found, workloads=tuple(there))
    own = {facts.name(each): each for pod in pods for each in (*found.workloads_of(pod), *seen.workloads_of(pod))}
    return replace(found, workloads=tuple(own.values()), has_queues=len(there) < MOST_WORKLOADS or bool(own))
