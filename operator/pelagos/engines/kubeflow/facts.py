"""What the cluster shows of a run: the pods of its steps and its Argo Workflow. Pure.

`sight` reads them; `causes` and `obstacles` judge by them.

Real servers tell neither why a step failed nor that one waits, and name no pod. A step's pod carries our annotations and labels,
and tells by an annotation which node of the Workflow it is; a node that lost its pod keeps a message. Both are written by
others: what has not the shape that is expected counts as nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pelagos.engines.kubeflow.placement import RUN_ANNOTATION

Body = Mapping[str, Any]

RUN_LABEL = "pipeline/runid"
"""On pods and Workflows, with the server's id of the run."""
MAIN = "main"
"""The container of a step that does its work."""
FUNCTION = "--function_to_execute"
"""Before the name of what a step's pod executes."""
STEPS_PODS = "-system-container-impl-"
"""In the names of pods that do a step's work; those that only prepare one are called driver."""
LONGEST = 700
"""Characters of what a pod, a node or an event says that are told."""
NODE_ID = "workflows.argoproj.io/node-id"
NODE_NAME = "workflows.argoproj.io/node-name"
STOPPED = "TerminationTarget"
"""The condition of a pod that Kueue has ended, with its words."""
KUEUES_FINALIZER = "kueue.x-k8s.io/managed"
OVERDUE = timedelta(minutes=2)
"""For so long nothing is said of a pod that should be gone."""
POD_NODE = "Pod"
"""The type of a Workflow's nodes that are pods."""
_LONGEST_GRACE = 366 * 24 * 3600
_REPETITION = re.compile(r"\([0-9]+\)$")


@dataclass(frozen=True)
class Node:
    """A pod as the Workflow knows it."""

    identifier: str
    path: str
    phase: str
    words: str


@dataclass(frozen=True)
class Facts:
    """``workflow`` is None when there is none; ``is_known``: whether the cluster was asked for it, has such a kind,
    and has shown all pods."""

    namespace: str
    pods: tuple[Body, ...] = ()
    workflow: Body | None = None
    is_known: bool = False
    workloads: tuple[Body, ...] = ()
    """Of Kueue, in the namespace."""
    has_queues: bool = False
    """Whether Kueue was asked."""
    queue_is_missing: bool = False
    """Whether there is no LocalQueue of the name that a pod which is held back bears."""
    places: Mapping[str, int] = field(default_factory=dict)
    """The place of Workloads in their ClusterQueue, by name, the next one 1; one that is not known is not there."""
    priorities: tuple[str, ...] | None = None
    """Names of all WorkloadPriorityClasses, where a pod which is held back bears one; None: they were not seen."""
    stuck: str = ""
    """Which pod in the queue of one that is held back takes its quota for no work."""
    events: tuple[Body, ...] = ()
    """About pods that a node has taken, and not begun."""

    @property
    def nodes(self) -> list[Node]:
        """Pods in the Workflow, whether they are still there or not."""
        status = mapping(mapping(self.workflow).get("status"))
        found = [mapping(node) for node in mapping(status.get("nodes")).values()]
        return [
            Node(text(node.get("id")), text(node.get("name")), text(node.get("phase")), words(node.get("message")))
            for node in found
            if node.get("type") == POD_NODE
        ]

    @property
    def workflow_words(self) -> str:
        """What the Workflow as a whole says."""
        return words(mapping(mapping(self.workflow).get("status")).get("message"))

    @property
    def phase(self) -> str:
        """Of the Workflow; "" before Argo has seen it."""
        return text(mapping(mapping(self.workflow).get("status")).get("phase"))

    @property
    def ended_at(self) -> datetime | None:
        """When the Workflow did."""
        return moment(mapping(mapping(self.workflow).get("status")).get("finishedAt"))

    def of_steps(self) -> list[Body]:
        """Pods that do a step's work."""
        return [pod for pod in self.pods if is_of_step(pod)]

    def pod_of(self, node: Node) -> Body | None:
        """The pod of a node; None when it is gone."""
        return next((pod for pod in self.pods if notes(pod).get(NODE_ID) == node.identifier), None)

    def workloads_of(self, pod: Body) -> list[Body]:
        """What Kueue makes of a pod, or of the group that it is in."""
        uid = mapping(pod.get("metadata")).get("uid")
        return [
            each
            for each in self.workloads
            if any(owner.get("uid") == uid for owner in listed(mapping(each.get("metadata")).get("ownerReferences")))
        ]

    def events_of(self, pod: Body) -> list[Body]:
        """Events about a pod."""
        return [each for each in self.events if mapping(each.get("involvedObject")).get("name") == name(pod)]


def admitted_at(workload: Body) -> datetime | None:
    """When Kueue admitted a Workload; None while it does not."""
    told = condition(workload, "Admitted")
    return moment(told.get("lastTransitionTime")) if told.get("status") == "True" else None


def is_about(event: Body, pod: Body) -> bool:
    """Whether an event is about this very pod."""
    about, uid = mapping(event.get("involvedObject")), mapping(pod.get("metadata")).get("uid")
    return about.get("name") == name(pod) and about.get("uid") in {None, "", uid}


def is_of_step(pod: Body) -> bool:
    """Whether it does a step's work."""
    return RUN_ANNOTATION in notes(pod) or STEPS_PODS in name(pod)


def step_of(pod: Body, steps: Collection[str] = ()) -> str:
    """The name of its step; "" when it does not tell. Of a pod that only prepares one, by the names of the run's ``steps``."""
    found = step_in(text(notes(pod).get(NODE_NAME)), steps)
    if found:
        return found
    # Not by a label: early servers give all steps of a run the labels of one. What the pod executes is right with every server.
    for container in listed(mapping(pod.get("spec")).get("containers")):
        spoken = [*_sequence(container.get("command")), *_sequence(container.get("args"))]
        if FUNCTION in spoken[:-1]:
            return str(spoken[spoken.index(FUNCTION) + 1]).replace("_", "-")
    return ""


def step_in(path: str, steps: Collection[str]) -> str:
    """The step that the path of a node leads to, such as ``workflow.root.train.executor(0)``; "" when it names none."""
    parts = [_REPETITION.sub("", part) for part in path.split(".")]
    return next((part.removesuffix("-driver") for part in reversed(parts) if part.removesuffix("-driver") in steps), "")


def name(pod: Body) -> str:
    """Its name."""
    return text(mapping(pod.get("metadata")).get("name"))


def notes(pod: Body) -> Body:
    """Its annotations."""
    return mapping(mapping(pod.get("metadata")).get("annotations"))


def labels(pod: Body) -> Body:
    """Its labels."""
    return mapping(mapping(pod.get("metadata")).get("labels"))


def status(pod: Body) -> Body:
    """Its status."""
    return mapping(pod.get("status"))


def phase(pod: Body) -> str:
    """How far it is."""
    return text(status(pod).get("phase")) or "Pending"


def condition(pod: Body, kind: str) -> Body:
    """A condition; empty when it has none of this type."""
    found = listed(status(pod).get("conditions"))
    return next((each for each in found if each.get("type") == kind), {})


def containers(pod: Body) -> Iterator[Body]:
    """States of containers, that of the step itself first."""
    found = [*listed(status(pod).get("containerStatuses")), *listed(status(pod).get("initContainerStatuses"))]
    yield from sorted(found, key=lambda each: each.get("name") != MAIN)


def is_held(pod: Body) -> bool:
    """Whether something, such as Kueue, keeps the scheduler from it."""
    return bool(listed(mapping(pod.get("spec")).get("schedulingGates")))


def is_stuck(pod: Body, now: datetime) -> str:
    """What Kueue counts as at work though it has ended, or was to end, some time ago; "" for a pod that is none."""
    metadata = mapping(pod.get("metadata"))
    if has_ended(pod) and KUEUES_FINALIZER in _sequence(metadata.get("finalizers")) and now - ended_at(pod) > OVERDUE:
        return f"the pod {name(pod)} has ended, and Kueue keeps its quota: see whether Kueue's controller runs"
    told = moment(metadata.get("deletionTimestamp"))
    if told is not None and not has_ended(pod) and now - told > OVERDUE:
        return f"the pod {name(pod)} was to end by {told.isoformat(timespec='seconds')}, has not, and keeps its quota"
    return ""


def has_ended(pod: Body) -> bool:
    """Whether it has, well or not."""
    return phase(pod) in {"Failed", "Succeeded"}


def is_ending(pod: Body) -> bool:
    """Whether it was told to end."""
    return "deletionTimestamp" in mapping(pod.get("metadata"))


def ended_before_deletion(pod: Body) -> bool:
    """Whether the step itself had ended when somebody, such as Argo's own collection of pods, had the pod deleted."""
    metadata = mapping(pod.get("metadata"))
    grace, deadline = metadata.get("deletionGracePeriodSeconds"), moment(metadata.get("deletionTimestamp"))
    main = next((each for each in containers(pod) if each.get("name") == MAIN), {})
    ended = moment(mapping(mapping(main.get("state")).get("terminated")).get("finishedAt"))
    if ended is None or deadline is None or not isinstance(grace, int):
        return False
    return ended < deadline - timedelta(seconds=min(grace, _LONGEST_GRACE))


def begun_at(pod: Body) -> datetime | None:
    """When the step itself began; None before that."""
    main = next((each for each in containers(pod) if each.get("name") == MAIN), {})
    states = [mapping(mapping(main.get("state")).get(kind)) for kind in ("running", "terminated")]
    return next((time for time in (moment(state.get("startedAt")) for state in states) if time), None)


def ended_at(pod: Body) -> datetime:
    """When its first container failed, or the end of time."""
    told = [mapping(mapping(each.get("state")).get("terminated")).get("finishedAt") for each in containers(pod)]
    return min((time for time in map(moment, told) if time), default=datetime.max.replace(tzinfo=UTC))


def moment(told: object) -> datetime | None:
    """A point in time; None for what is none."""
    try:
        time = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def words(told: object) -> str:
    """In one line: the beginning, which says what ended, and the end, which says why."""
    line = " ".join(text(told).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 4]} ... {line[-LONGEST * 3 // 4 :]}"


def text(told: object) -> str:
    """A text; "" for what is none."""
    return told if isinstance(told, str) else ""


def mapping(told: object) -> Body:
    """An object; an empty one for what is none."""
    return told if isinstance(told, Mapping) else {}


def listed(told: object) -> list[Body]:
    """Objects in a list; those that are none are left out."""
    return [each for each in _sequence(told) if isinstance(each, Mapping)]


def _sequence(told: object) -> list[Any]:
    return told if isinstance(told, list) else []
