"""The position of a run's step in its queue, from Kueue's Workload for its pod. Pure; called by `reading`."""

from __future__ import annotations

from pelagos.engines.kubeflow import facts, obstacles
from pelagos.engines.kubeflow.facts import Body, Facts
from pelagos.engines.kubeflow.placement import QUEUE_LABEL
from pelagos.ports.pipelines import Queueing


def of_run(seen: Facts) -> Queueing | None:
    """The queueing of the pod that waits, else of the one queued last; None when Kueue has no Workload for any of them."""
    alive = [pod for pod in seen.pods if not facts.has_ended(pod) and not facts.is_ending(pod)]
    found = [(pod, workload) for pod in alive for workload in seen.workloads_of(pod)]
    if not found:
        return None
    pod, workload = max(found, key=lambda each: (facts.is_held(each[0]), facts.text(_made(each[1]))))
    since, admitted = facts.moment(_made(workload)), facts.admitted_at(workload)
    if facts.is_held(pod):
        admitted = None
    return Queueing(
        facts.text(facts.labels(pod).get(QUEUE_LABEL)),
        since=since,
        admitted_at=max(since, admitted) if since and admitted else admitted,
        position=seen.places.get(facts.name(workload)) if facts.is_held(pod) else None,
        reason=facts.words(obstacles.pending(workload)) if facts.is_held(pod) else "",
    )


def _made(workload: Body) -> object:
    return facts.mapping(workload.get("metadata")).get("creationTimestamp")
