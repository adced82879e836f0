"""The facts about a run in the cluster: the pods of its steps and its Argo Workflow. Pure.

`sight` reads them; `causes` and `obstacles` judge by them.

Real servers say neither why a step failed nor that one waits, and name no pod. A step's pod carries our annotations and labels,
and an annotation that names its node in the Workflow; a node that lost its pod keeps a message. Both are written by others, so
anything that does not have the expected shape is treated as missing.
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
"""The label of pods and Workflows with the server's id of the run."""
MAIN = "main"
"""The container that does the step's work."""
FUNCTION = "--function_to_execute"
"""The argument in a step's pod that precedes the name of its function."""
STEPS_PODS = "-system-container-impl-"
"""Part of the names of pods that do a step's work; those that only prepare one are called driver."""
LONGEST = 700
"""Longest message of a pod, a node or an event that is reported, in characters."""
NODE_ID = "workflows.argoproj.io/node-id"
NODE_NAME = "workflows.argoproj.io/node-name"
STOPPED = "TerminationTarget"
"""The condition of a pod that Kueue has ended; it carries Kueue's message."""
KUEUES_FINALIZER = "kueue.x-k8s.io/managed"
OVERDUE = timedelta(minutes=2)
"""How long after its deadline a pod that still exists is not mentioned."""
POD_NODE = "Pod"
"""The type of a Workflow's nodes that are pods."""
_LONGEST_GRACE = 366 * 24 * 3600
_REPETITION = re.compile(r"\([0-9]+\)$")


@dataclass(frozen=True)
class Node:
    """A pod as the Workflow records it; ``words`` is its message."""

    identifier: str
    path: str
    phase: str
    words: str


@dataclass(frozen=True)
class Facts:
    """The pods of a run, its Workflow and its queue, as read at one time.

    ``workflow`` is None when none was found. ``is_known``: whether it was looked for, its kind is served, and all pods were read.
    """

    namespace: str
    pods: tuple[Body, ...] = ()
    workflow: Body | None = None
    is_known: bool = False
    workloads: tuple[Body, ...] = ()
    """Kueue's Workloads for the run's pods."""
    has_queues: bool = False
    """Whether Kueue's Workloads were read, and none of the run's can be missing from the list."""
    queue_is_missing: bool = False
    """Whether the LocalQueue that a held pod names does not exist."""
    places: Mapping[str, int] = field(default_factory=dict)
    """Positions of Workloads in their ClusterQueue, by name, where 1 is next; unknown ones are left out."""
    priorities: tuple[str, ...] | None = None
    """Names of all WorkloadPriorityClasses, read if a held pod names one; None when they were not read."""
    stuck: str = ""
    """A message about a pod in the same queue that holds quota without working; "" when there is none."""
    events: tuple[Body, ...] = ()
    """Events about pods that were assigned to a node but have not started."""

    @property
    def nodes(self) -> list[Node]:
        """The Workflow's nodes that are pods, whether the pods still exist or not."""
        status = mapping(mapping(self.workflow).get("status"))
        found = [mapping(node) for node in mapping(status.get("nodes")).values()]
        return [
            Node(text(node.get("id")), text(node.get("name")), text(node.get("phase")), words(node.get("message")))
            for node in found
            if node.get("type") == POD_NODE
        ]

    @property
    def workflow_words(self) -> str:
        """The message of the Workflow as a whole."""
        return words(mapping(mapping(self.workflow).get("status")).get("message"))

    @property
    def phase(self) -> str:
        """The Workflow's phase; "" before Argo has handled it."""
        return text(mapping(mapping(self.workflow).get("status")).get("phase"))

    @property
    def ended_at(self) -> datetime | None:
        """When the Workflow ended; None before that."""
        return moment(mapping(mapping(self.workflow).get("status")).get("finishedAt"))

    def of_steps(self) -> list[Body]:
        """Pods that do a step's work."""
        return [pod for pod in self.pods if is_of_step(pod)]

    def pod_of(self, node: Node) -> Body | None:
        """The pod of a node; None when it no longer exists."""
        return next((pod for pod in self.pods if notes(pod).get(NODE_ID) == node.identifier), None)

    def workloads_of(self, pod: Body) -> list[Body]:
        """The Workloads that Kueue created for a pod, or for its group of pods."""
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
    """When Kueue admitted a Workload; None while it is not admitted."""
    told = condition(workload, "Admitted")
    return moment(told.get("lastTransitionTime")) if told.get("status") == "True" else None


def is_about(event: Body, pod: Body) -> bool:
    """Whether an event is about this pod, and not about another one of its name."""
    about, uid = mapping(event.get("involvedObject")), mapping(pod.get("metadata")).get("uid")
    return about.get("name") == name(pod) and about.get("uid") in {None, "", uid}


def is_of_step(pod: Body) -> bool:
    """Whether the pod does a step's work, rather than prepare one."""
    return RUN_ANNOTATION in notes(pod) or STEPS_PODS in name(pod)


def step_of(pod: Body, steps: Collection[str] = ()) -> str:
    """The name of the pod's step; "" when it does not say. For a driver pod the names of the run's ``steps`` are needed."""
    found = step_in(text(notes(pod).get(NODE_NAME)), steps)
    if found:
        return found
    # Do not use labels: early servers give all pods of a run the labels of one step. The pod's command is right everywhere.
    for container in listed(mapping(pod.get("spec")).get("containers")):
        spoken = [*_sequence(container.get("command")), *_sequence(container.get("args"))]
        if FUNCTION in spoken[:-1]:
            return str(spoken[spoken.index(FUNCTION) + 1]).replace("_", "-")
    return ""


def step_in(path: str, steps: Collection[str]) -> str:
    """The step in the path of a node, such as ``workflow.root.train.executor(0)``; "" when it names none."""
    parts = [_REPETITION.sub("", part) for part in path.split(".")]
    return next((part.removesuffix("-driver") for part in reversed(parts) if part.removesuffix("-driver") in steps), "")


def name(pod: Body) -> str:
    """The object's name; "" without one."""
    return text(mapping(pod.get("metadata")).get("name"))


def notes(pod: Body) -> Body:
    """The object's annotations; empty without any."""
    return mapping(mapping(pod.get("metadata")).get("annotations"))


def labels(pod: Body) -> Body:
    """The object's labels; empty without any."""
    return mapping(mapping(pod.get("metadata")).get("labels"))


def status(pod: Body) -> Body:
    """The object's status; empty without one."""
    return mapping(pod.get("status"))


def phase(pod: Body) -> str:
    """The pod's phase; Pending when it has none yet."""
    return text(status(pod).get("phase")) or "Pending"


def condition(pod: Body, kind: str) -> Body:
    """The object's condition of a type; empty when it has none."""
    found = listed(status(pod).get("conditions"))
    return next((each for each in found if each.get("type") == kind), {})


def containers(pod: Body) -> Iterator[Body]:
    """The statuses of the pod's containers and init containers, that of the step itself first."""
    found = [*listed(status(pod).get("containerStatuses")), *listed(status(pod).get("initContainerStatuses"))]
    yield from sorted(found, key=lambda each: each.get("name") != MAIN)


def is_held(pod: Body) -> bool:
    """Whether a scheduling gate, such as Kueue's, holds the pod back."""
    return bool(listed(mapping(pod.get("spec")).get("schedulingGates")))


def is_stuck(pod: Body, now: datetime) -> str:
    """A message if Kueue still counts the pod's quota OVERDUE after it ended or was to end; else ""."""
    metadata = mapping(pod.get("metadata"))
    if has_ended(pod) and KUEUES_FINALIZER in _sequence(metadata.get("finalizers")) and now - ended_at(pod) > OVERDUE:
        return f"the pod {name(pod)} has ended, and Kueue keeps its quota: check whether Kueue's controller runs"
    told = moment(metadata.get("deletionTimestamp"))
    if told is not None and not has_ended(pod) and now - told > OVERDUE:
        return f"the pod {name(pod)} should have ended by {told.isoformat(timespec='seconds')}, has not, and keeps its quota"
    return ""


def has_ended(pod: Body) -> bool:
    """Whether the pod has ended, successfully or not."""
    return phase(pod) in {"Failed", "Succeeded"}


def is_ending(pod: Body) -> bool:
    """Whether the pod's deletion was requested."""
    return "deletionTimestamp" in mapping(pod.get("metadata"))


def ended_before_deletion(pod: Body) -> bool:
    """Whether the step itself had ended before the pod's deletion was requested, for example by Argo's pod collection."""
    metadata = mapping(pod.get("metadata"))
    grace, deadline = metadata.get("deletionGracePeriodSeconds"), moment(metadata.get("deletionTimestamp"))
    main = next((each for each in containers(pod) if each.get("name") == MAIN), {})
    ended = moment(mapping(mapping(main.get("state")).get("terminated")).get("finishedAt"))
    if ended is None or deadline is None or not isinstance(grace, int):
        return False
    return ended < deadline - timedelta(seconds=min(grace, _LONGEST_GRACE))


def begun_at(pod: Body) -> datetime | None:
    """When the step's own container started; None before that."""
    main = next((each for each in containers(pod) if each.get("name") == MAIN), {})
    states = [mapping(mapping(main.get("state")).get(kind)) for kind in ("running", "terminated")]
    return next((time for time in (moment(state.get("startedAt")) for state in states) if time), None)


def ended_at(pod: Body) -> datetime:
    """When the pod's first container ended; the largest datetime when none has, so that it sorts last."""
    told = [mapping(mapping(each.get("state")).get("terminated")).get("finishedAt") for each in containers(pod)]
    return min((time for time in map(moment, told) if time), default=datetime.max.replace(tzinfo=UTC))


def moment(told: object) -> datetime | None:
    """A point in time, in UTC if it names no zone; None for anything else."""
    try:
        time = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def words(told: object) -> str:
    """A message in one line. A long one keeps its beginning, which says what ended, and its end, which says why."""
    line = " ".join(text(told).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 4]} ... {line[-LONGEST * 3 // 4 :]}"


def text(told: object) -> str:
    """A string; "" for anything else."""
    return told if isinstance(told, str) else ""


def mapping(told: object) -> Body:
    """A mapping; an empty one for anything else."""
    return told if isinstance(told, Mapping) else {}


def listed(told: object) -> list[Body]:
    """The mappings in a list; other items are left out, and anything else gives an empty list."""
    return [each for each in _sequence(told) if isinstance(each, Mapping)]


def _sequence(told: object) -> list[Any]:
    return told if isinstance(told, list) else []
