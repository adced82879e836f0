"""Why a step failed, from its pod or, if that no longer exists, from its Workflow node. Pure; called by `reading`.

A pod that the cluster ended (evicted, preempted, deleted, its node lost) is an interruption: the step did nothing wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from pelagos.engines.kubeflow import facts
from pelagos.engines.kubeflow.facts import Body, Facts
from pelagos.engines.kubeflow.placement import QUEUE_LABEL
from pelagos.ports.pipelines import RunState

_OUT_OF_MEMORY = re.compile(r"OOMKilled", re.IGNORECASE)
_GONE = re.compile(
    r"evict|preempt|pod deleted|pod was deleted|node ?(was |is )?(shut ?down|shutting|lost|not ?ready|unreachable)|"
    r"imminent node shutdown|exit code (137|143)|signal: (killed|terminated)|low on resource",
    re.IGNORECASE,
)
"""Wording about pods that were ended from outside; the step itself did nothing wrong."""
_UNASKED = re.compile(r"failed (calling|to call) webhook", re.IGNORECASE)
"""Wording when a pod was not created because a webhook did not answer; for most causes Argo gives up at once."""
_DISRUPTION = "DisruptionTarget"
_PREEMPTED = re.compile(r"^(WorkloadEvictedDueToPreempted|Preempted to accommodate)\b")
"""How Kueue's messages begin about a pod whose quota went to another workload."""
_WHY_PREEMPTED = (
    ("due to prioritization", "for a more important workload"),
    ("due to Fair Sharing", "for a fair share among the queues of its cohort"),
    ("due to reclamation", "for a workload of the queue that its quota belongs to"),
)
"""Kueue's reasons, with their meanings."""
_BY_NODE = frozenset(
    {"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting", "Preempted"}
    | {"NodeAffinity", "UnexpectedAdmissionError"}
)
"""Reasons of pods that their node ended or did not admit."""
_NO_ROOM = "OutOf"
"""Prefix of the reasons when a node had no room for the pod after all: OutOfcpu, OutOfmemory, OutOfnvidia.com/gpu."""
_DEADLINE = re.compile(r"\bDeadlineExceeded\b")
"""Kubernetes' reason for a pod that exceeded its own time limit."""


@dataclass(frozen=True)
class Cause:
    """What ended a step, in the cluster's words. ``pod`` is empty when it no longer exists."""

    state: RunState
    step: str
    words: str
    pod: str = ""
    queue: str = ""
    """The Kueue queue that the pod was in."""

    @property
    def is_preempted(self) -> bool:
        """Whether Kueue gave the pod's quota to another workload. Only a pod counts: a Workflow's words may be the step's own."""
        return bool(self.pod) and self.state is RunState.INTERRUPTED and _PREEMPTED.match(self.words) is not None

    @property
    def sentence(self) -> str:
        """The cause as a sentence for people, with a hint where one is known."""
        if is_out_of_memory(self.words):
            return f"step {self.step} ran out of memory ({self.words}); give it more in spec.resources.memory"
        if self.is_preempted:
            whom = next((meaning for said, meaning in _WHY_PREEMPTED if said in self.words), "for another workload")
            where = f" in the queue {self.queue}" if self.queue else ""
            return f"step {self.step} was preempted{where} {whom}: {self.words}"
        if self.state is RunState.INTERRUPTED:
            # For a killed child of the container's first process, some runtimes do not report that memory was the cause.
            killed = "exit code 137" in self.words
            if not self.pod and _UNASKED.search(self.words):
                return (
                    f"the cluster accepted no pod of step {self.step}, because a webhook does not answer: {self.words}"
                )
            hint = "; if nobody did that, give it more in spec.resources.memory" if killed else ""
            return f"the pod of step {self.step} ended without an outcome: {self.words}{hint}"
        return f"step {self.step} failed: {self.words}"


def by_words(step: str, told: str) -> Cause:
    """The cause, judged from a message alone."""
    # Check for memory first: a pod killed for it also has exit code 137, and as an interruption it would be retried and
    # killed again.
    own = is_out_of_memory(told) or _DEADLINE.search(told)
    outside = _GONE.search(told) or _UNASKED.search(told)
    return Cause(RunState.INTERRUPTED if outside and not own else RunState.FAILED, step, told)


def is_out_of_memory(told: str) -> bool:
    """Whether the message says that a container ran out of memory."""
    return _OUT_OF_MEMORY.search(told) is not None


def of_failure(seen: Facts, steps: Collection[str]) -> Cause | None:
    """The cause of the first failed step; None when the cluster shows no failure."""
    for pod in sorted(seen.of_steps(), key=facts.ended_at):
        found = _of_pod(pod, facts.step_of(pod, steps) or facts.name(pod))
        if found is not None:
            return found
    failed = [(facts.step_in(node.path, steps), node) for node in seen.nodes if node.phase in {"Failed", "Error"}]
    for step, node in failed:
        if step:
            return by_words(step, node.words or "neither its pod nor its workflow gives the cause")
    # A driver pod fails before its step has one: report it as it is, under its own name if no step is known.
    for pod in sorted((pod for pod in seen.pods if not facts.is_of_step(pod)), key=facts.ended_at):
        found = _of_pod(pod, facts.step_of(pod, steps) or facts.name(pod))
        if found is not None:
            return found
    return next((by_words(node.path.rpartition(".")[2], node.words) for _, node in failed if node.words), None)


def _of_pod(pod: Body, step: str) -> Cause | None:
    status, name = facts.status(pod), facts.name(pod)
    if facts.phase(pod) == "Succeeded":
        return None
    ended = [
        (each, facts.mapping(facts.mapping(each.get("state")).get("terminated"))) for each in facts.containers(pod)
    ]
    if any(state.get("reason") == "OOMKilled" for each, state in ended if each.get("name") == facts.MAIN):
        return Cause(RunState.FAILED, step, "OOMKilled (exit code 137)", name)
    outside = _from_outside(pod)
    if outside:
        return Cause(RunState.INTERRUPTED, step, outside, name, facts.text(facts.labels(pod).get(QUEUE_LABEL)))
    reason = facts.text(status.get("reason"))
    if _DEADLINE.fullmatch(reason):
        return Cause(RunState.FAILED, step, f"{reason}: {facts.words(status.get('message'))}".rstrip(": "), name)
    for each, state in ended:
        code = state.get("exitCode")
        if isinstance(code, int) and code:
            who = "" if each.get("name") == facts.MAIN else f"its container {facts.text(each.get('name'))}: "
            told = f"{who}{facts.text(state.get('reason')) or 'Error'} (exit code {code})"
            said = facts.words(state.get("message"))
            gone = code in {137, 143} and not who
            return Cause(
                RunState.INTERRUPTED if gone else RunState.FAILED, step, f"{told}: {said}" if said else told, name
            )
    told = facts.words(status.get("message")) or reason
    # If the pod has no message, the Workflow may have one.
    return replace(by_words(step, told), pod=name) if told and facts.phase(pod) == "Failed" else None


def _from_outside(pod: Body) -> str:
    """What ended the pod other than the step itself or its time limit; "" when nothing did."""
    status = facts.status(pod)
    reason, said = facts.text(status.get("reason")), facts.words(status.get("message"))
    if reason in _BY_NODE or reason.startswith(_NO_ROOM):
        return f"{reason}: {said}".rstrip(": ")
    # Kueue's own message comes first: the cluster may only add that the pod was deleted through the API.
    for kind in (facts.STOPPED, _DISRUPTION):
        told = facts.condition(pod, kind)
        if told.get("status") == "True":
            words = (facts.text(told.get("reason"))[:200], facts.words(told.get("message")))
            return ": ".join(filter(None, words)) or kind
    if facts.is_ending(pod) and not facts.ended_before_deletion(pod):
        return "its pod was deleted"
    return ""
