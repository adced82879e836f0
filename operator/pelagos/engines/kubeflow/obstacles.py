"""The obstacle that a step waits for, from its pod, from its queue, and from the Workflow when the cluster accepts no pod. Pure.

Called by `reading`. The chain of checks reads as the specification; every message quotes the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal

from pelagos.api import reasons
from pelagos.engines.kubeflow import facts
from pelagos.engines.kubeflow.facts import Body, Facts
from pelagos.engines.kubeflow.placement import PRIORITY_LABEL, QUEUE_LABEL
from pelagos.engines.kubeflow.preflight import absent_priority
from pelagos.engines.kubernetes.quantities import quantity

_NO_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
_NO_NAME = "InvalidImageName"
_NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NOT_BEGUN = frozenset({"ContainerCreating", "PodInitializing"})
_VOLUMES = re.compile(r"persistentvolumeclaim|persistent ?volume|volume node affinity|unbound immediate", re.IGNORECASE)
_NAMED = re.compile(r"\b(secret|configmap)\b", re.IGNORECASE)
_NO_ROOM = re.compile(r"Insufficient (cpu|memory)\b")
_QUOTA = re.compile(r"exceeded quota", re.IGNORECASE)
_ASKED = re.compile(r"requested: (?P<asked>.*?), used: .*?, limited: (?P<limited>.*)")
_TRANSIENT = re.compile(r"timeout|timed out|connection refused|too many requests|etcdserver|try again", re.IGNORECASE)
_REFUSED = re.compile(r"forbidden|denied the request|is invalid|violates", re.IGNORECASE)
_NEVER_FITS = re.compile(
    r"in flavor (?P<flavor>\S{1,253}), [^,]{0,300}> maximum capacity|flavor (?P<other>\S{1,253}) doesn't match node affinity|"
    r"untolerated taint .{0,500}? in flavor (?P<third>[^\s,;]{1,253})"
)
"""Kueue's wording about a flavor of the queue that could not hold the request even if it were empty, or does not suit it."""
_FITS_LATER = re.compile(r"insufficient unused quota for \S{1,253} in flavor (?P<flavor>[^\s,;]{1,253})")
"""Kueue's wording about a flavor that can hold the request once others have ended."""
_NEVER = re.compile(
    r"resource \S{1,253} unavailable in ClusterQueue|resources (validation failed|didn't satisfy LimitRange constraints)"
)
_NO_QUEUE = re.compile(
    r"(LocalQueue|ClusterQueue) \S{0,253} ?(doesn't exist|not found|is inactive|is stopped|is terminating or missing)|"
    r"Workload namespace doesn't match ClusterQueue selector",
    re.IGNORECASE,
)
LONGEST = 32 * 1024
"""Longest part of Kueue's message that is parsed, in characters. It names every flavor of the queue; no condition is longer."""
_EXTRA = "Besides what spec.resources asks for, the pod of each step has Argo's and Kubeflow's own containers (100m CPU, 256Mi)"


@dataclass(frozen=True)
class Obstacle:
    """Why a run makes no progress. The state of the reason says whether it resolves by itself."""

    reason: reasons.Reason
    message: str


def is_at_work(seen: Facts) -> bool:
    """Whether the pod of a step, or one that prepares a step, is running."""
    return any(facts.phase(pod) == "Running" and not facts.is_ending(pod) for pod in seen.pods)


def of_waiting(seen: Facts, steps: Collection[str]) -> Obstacle | None:
    """What keeps the next step from running; None when the cluster shows no obstacle."""
    if is_at_work(seen):
        return None
    waiting = [pod for pod in seen.pods if facts.phase(pod) == "Pending" and not facts.is_ending(pod)]
    for pod in sorted(waiting, key=lambda pod: not facts.is_of_step(pod)):
        step = facts.step_of(pod, steps) or (facts.name(pod) if facts.is_of_step(pod) else "")
        for check in CHECKS:
            found = check(pod, _who(step), seen)
            if found is not None:
                return found
    for node in seen.nodes:
        if node.phase == "Pending" and node.words and seen.pod_of(node) is None:
            return _without_pod(_who(facts.step_in(node.path, steps)), node.words)
    return None


def _who(step: str) -> str:
    """The name of the waiting step or run: before any step, the server starts a pod that prepares the run as a whole."""
    return f"step {step}" if step else "the run"


def gated(pod: Body, step: str, seen: Facts) -> Obstacle | None:
    """Kueue holds the pod back: its queue's quota is used up or too small, the queue does not exist, or the priority does not."""
    gates = [
        facts.text(gate.get("name")) for gate in facts.listed(facts.mapping(pod.get("spec")).get("schedulingGates"))
    ]
    if not gates:
        return None
    queue = facts.text(facts.labels(pod).get(QUEUE_LABEL))
    found = seen.workloads_of(pod)
    judged = next((words for words in map(pending, found) if words), "")
    told = facts.words(judged)
    where = f"in the queue {queue}" if queue else f"at the gate {', '.join(gates)[:200]}"
    if seen.queue_is_missing or _NO_QUEUE.search(judged):
        said = told or f"there is no LocalQueue {queue} in {seen.namespace}"
        change = "Ask the cluster's administrator to create or start the queue, or name another in spec.resources.queue"
        return Obstacle(reasons.QUEUE_NOT_USABLE, f"{step} can never start {where}: {said}. {change}")
    priority = facts.text(facts.labels(pod).get(PRIORITY_LABEL))
    if priority and not found and seen.priorities is not None and priority not in seen.priorities:
        change = "Name one of these in spec.priority, or have it created"
        absent = absent_priority(priority, seen.priorities)
        return Obstacle(reasons.PRIORITY_NOT_USABLE, f"{step} can never start {where}: {absent}. {change}")
    if never_fits(judged):
        change = f"Ask for less in spec.resources, or have the queue's quota raised. {_EXTRA}"
        return Obstacle(reasons.REQUEST_TOO_LARGE, f"{step} can never start {where}: {told}. {change}")
    unknown = "Kueue does not say why" if seen.has_queues else "the cause cannot be seen"
    if seen.has_queues and priority and not found and seen.priorities is None:
        unknown += f"; it has no Workload for it, as when there is no WorkloadPriorityClass {priority}"
    why = told or unknown
    return Obstacle(reasons.QUEUED, f"{step} waits {where}: {f'{why}. But {seen.stuck}' if seen.stuck else why}")


def never_fits(told: str) -> bool:
    """Whether Kueue says that no flavor of the queue could hold the request even if it were empty."""
    never = {match[match.lastgroup or 0] for match in _NEVER_FITS.finditer(told)}
    later = {match["flavor"] for match in _FITS_LATER.finditer(told)}
    # If one flavor is too small but another is only used up, the request waits for that other one.
    return _NEVER.search(told) is not None or (bool(never) and later <= never)


def unplaceable(pod: Body, step: str, seen: Facts) -> Obstacle | None:
    """No node has room for the pod, or a claim has no volume."""
    del seen
    scheduled = facts.condition(pod, "PodScheduled")
    if scheduled.get("status") != "False":
        return None
    told = facts.words(scheduled.get("message")) or facts.text(scheduled.get("reason"))
    if _VOLUMES.search(told):
        return Obstacle(reasons.VOLUME_NOT_READY, f"{step} waits for a volume: {told}")
    # A user who asks for as many cores as a node has would not expect the helpers' requests on top.
    more = f". {_EXTRA}" if _NO_ROOM.search(told) else ""
    return Obstacle(
        reasons.UNSCHEDULABLE, f"{step} waits for a node with room: {told.rstrip('.') if more else told}{more}"
    )


def without_image(pod: Body, step: str, seen: Facts) -> Obstacle | None:
    """The image cannot be pulled, or its name is invalid."""
    del seen
    for each in facts.containers(pod):
        waiting = _waiting(each)
        reason, image = facts.text(waiting.get("reason")), facts.text(each.get("image"))[:300]
        if reason == _NO_NAME:
            change = "Correct PELAGOS_TRAINER_IMAGE of the operator"
            message = f"{step} can never start: {image!r} is not the name of an image: {_told(waiting)}. {change}"
            return Obstacle(reasons.IMAGE_NAME_INVALID, message)
        if reason in _NO_IMAGE:
            return Obstacle(reasons.IMAGE_NOT_PULLED, f"{step} waits for its image {image}: {_told(waiting)}")
    return None


def misconfigured(pod: Body, step: str, seen: Facts) -> Obstacle | None:
    """The container cannot be created: a Secret, a ConfigMap or one of its keys is missing, or the node refuses."""
    del seen
    for each in facts.containers(pod):
        waiting = _waiting(each)
        if waiting.get("reason") in _NO_CONTAINER:
            return Obstacle(reasons.STEP_NOT_CONFIGURED, f"{step} cannot start its container: {_told(waiting)}")
    return None


def unmounted(pod: Body, step: str, seen: Facts) -> Obstacle | None:
    """The node warns about something that it cannot attach or mount."""
    told = [event for event in seen.events_of(pod) if event.get("type") == "Warning"]
    if not told:
        return None
    latest = max(told, key=lambda event: facts.text(event.get("lastTimestamp") or event.get("eventTime")))
    words = f"{facts.text(latest.get('reason'))}: {facts.words(latest.get('message'))}"
    if _NAMED.search(words):
        return Obstacle(reasons.STEP_NOT_CONFIGURED, f"{step} waits for a Secret or a ConfigMap: {words}")
    if "Mount" in words or "Volume" in words:
        return Obstacle(reasons.VOLUME_NOT_READY, f"{step} waits for a volume: {words}")
    return Obstacle(reasons.STEP_STARTING, f"{step} is being started: {words}")


def starting(pod: Body, step: str, seen: Facts) -> Obstacle | None:
    """The pod was assigned to a node and is starting, or the scheduler has not handled it yet."""
    del seen
    node = facts.text(facts.mapping(pod.get("spec")).get("nodeName"))
    where = f"on node {node[:253]}; its image is fetched or its volumes are attached" if node else "and has no node yet"
    return Obstacle(
        reasons.STEP_STARTING, f"{step} is being started: its pod {facts.name(pod)} is {where}".replace(" is and", "")
    )


CHECKS: tuple[Callable[[Body, str, Facts], Obstacle | None], ...] = (
    gated,  # Queued; QueueNotUsable and RequestTooLarge, which do not pass
    unplaceable,  # Unschedulable, VolumeNotReady
    without_image,  # ImageNotPulled; ImageNameInvalid, which does not pass
    misconfigured,  # StepNotConfigured
    unmounted,  # VolumeNotReady, StepNotConfigured
    starting,  # StepStarting
)
"""In this order; the first one that finds an obstacle is reported."""


def _without_pod(step: str, told: str) -> Obstacle:
    """The obstacle when the cluster accepts no pod of the step and Argo keeps retrying."""
    if _QUOTA.search(told):
        if _never(told):
            change = f"Ask for less in spec.resources, or have the quota raised. {_EXTRA}"
            return Obstacle(
                reasons.REQUEST_TOO_LARGE, f"{step} can never start in the namespace's quota: {told}. {change}"
            )
        return Obstacle(reasons.QUOTA_EXCEEDED, f"{step} waits for the namespace's quota: {told}")
    if _REFUSED.search(told) and not _TRANSIENT.search(told):
        return Obstacle(reasons.POD_REFUSED, f"the cluster refuses the pod of {step}: {told}")
    return Obstacle(reasons.STEP_STARTING, f"{step} has no pod yet: {told}")


def _never(told: str) -> bool:
    """Whether the request for any resource exceeds the whole quota."""
    found = _ASKED.search(told)
    if found is None:
        return False
    asked, limited = _amounts(found["asked"]), _amounts(found["limited"])
    return any(amount > limited[what] for what, amount in asked.items() if what in limited)


def _amounts(told: str) -> dict[str, Decimal]:
    pairs = (part.strip().partition("=") for part in told.split(","))
    found = {what: quantity(amount) for what, _, amount in pairs}
    return {what: amount for what, amount in found.items() if amount is not None}


def pending(workload: Body) -> str:
    """Kueue's full message about why it has not admitted a Workload; "" when it has."""
    told = facts.condition(workload, "QuotaReserved")
    return facts.text(told.get("message"))[:LONGEST] if told.get("status") == "False" else ""


def _waiting(container: Body) -> Body:
    return facts.mapping(facts.mapping(container.get("state")).get("waiting"))


def _told(waiting: Body) -> str:
    return f"{facts.text(waiting.get('reason'))}: {facts.words(waiting.get('message'))}".rstrip(": ")
