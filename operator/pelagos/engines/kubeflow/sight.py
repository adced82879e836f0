"""Reads the pods and the Workflow of runs, where we have the rights. Called by the engine kubeflow.

This improves messages and detects losses. Without it a run is reported as its server reports it, so nothing here fails a pass.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from typing import Any, Protocol

from pelagos.api import reasons
from pelagos.api.meta import UID_LABEL
from pelagos.engines.kubeflow import facts, losses, trimming
from pelagos.engines.kubeflow.facts import RUN_LABEL, Body, Facts
from pelagos.engines.kubeflow.losses import Loss
from pelagos.engines.kubeflow.placement import RUN_ANNOTATION
from pelagos.engines.kubeflow.queues import Queues
from pelagos.engines.kubernetes.objects import Collection
from pelagos.ports.clock import Clock
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract.text import shown

logger = logging.getLogger(__name__)

WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
PODS = Collection("v1", "Pod", "pods")
WORKFLOWS = Collection("argoproj.io/v1alpha1", "Workflow", "workflows")
EVENTS = Collection("v1", "Event", "events")
SHORTEST, LONGEST = timedelta(seconds=5), timedelta(seconds=60)
"""Pause between two reads of a running run: a tenth of the time since its state changed, within these bounds."""
LOST = timedelta(minutes=2)
"""How long a loss must last before the run counts as lost."""
SUSPECTED = timedelta(seconds=20)
"""How long a loss is not mentioned yet, because servers learn of an end some seconds late."""
AFTER_FAILURE = timedelta(seconds=30)
STALE = timedelta(minutes=2)
"""How long the last facts about a running run are used while nothing can be read; after that the run may have resumed."""
_STOPPED = "Stopped"
"""The reason in Kueue's events about pods that it ends."""
MOST = 4
"""For how many pods of a run events are read."""
MOST_PODS, MOST_EVENTS = 100, 50
"""Pods per run, and events per pod, that are read. Bounded, because anyone who may create pods can label them as of a run."""
REMEMBERED = 3000
"""How many runs' facts are kept; those read longest ago are dropped first."""


class Objects(Protocol):
    """Reads Kubernetes objects; see KubernetesObjects."""

    async def list(
        self,
        kind: Collection,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        *,
        most: int = 0,
    ) -> Sequence[Mapping[str, Any]]:
        """At most ``most`` objects with all labels and field values. Raises OutageError and RejectedError."""

    async def get(self, kind: Collection, namespace: str, name: str) -> Mapping[str, Any] | None:
        """One object; None when it does not exist. Raises as ``list`` does."""

    async def serves(self, kind: Collection) -> bool:
        """Whether the server knows the kind. Raises as ``list`` does."""


@dataclass
class _Look:
    state: str
    since: datetime
    at: datetime
    facts: Facts
    failed: bool = False
    loss: Loss | None = None
    lost_for: float = 0.0
    """Seconds, by a monotonic clock."""
    seen_at: float = 0.0
    good_at: float = -inf
    """When a look last succeeded, by the same clock."""


class Sight:
    """The latest facts about all runs. Without ``objects`` nothing is read, and there are none."""

    def __init__(self, objects: Objects | None, clock: Clock, shortest: timedelta = SHORTEST) -> None:
        self._objects = objects
        self._shortest = shortest
        self._clock = clock
        self._looks: OrderedDict[str, _Look] = OrderedDict()
        self._queues = Queues(clock, shortest)

    def seen(self, identifier: str) -> Facts | None:
        """The latest facts about a run, by the server's id; None when it was never read."""
        look = self._looks.get(identifier)
        return look.facts if look is not None else None

    def forget(self, identifier: str) -> None:
        """Drop the facts about a run that no longer exists."""
        self._looks.pop(identifier, None)

    def lost(self, identifier: str) -> Loss | None:
        """The loss of a run, once it has lasted too long to be a transition between two states."""
        look = self._looks.get(identifier)
        if look is None or look.failed or look.lost_for < LOST.total_seconds():
            return None
        return look.loss

    def suspected(self, identifier: str) -> Loss | None:
        """A loss that has lasted longer than SUSPECTED, but not as long as LOST, so that it does not count yet."""
        look = self._looks.get(identifier)
        if look is None or look.failed or look.lost_for < SUSPECTED.total_seconds():
            return None
        return look.loss if look.lost_for < LOST.total_seconds() else None

    async def require_none_at_work(self, run: str, uid: str, namespace: str) -> None:
        """Raise RejectedError when pods still run of a run that the server does not know: only its record was deleted."""
        if self._objects is None or not namespace or not uid:
            return
        try:
            found = await self._objects.list(PODS, namespace, {UID_LABEL: uid}, most=MOST_PODS)
        except (OutageError, RejectedError) as error:  # without the right to look, the run is created unchecked
            logger.warning("Pods of resource %s in %s cannot be seen: %s", uid, namespace, error)
            return
        mine = [pod for pod in found if facts.notes(pod).get(RUN_ANNOTATION) == run and not facts.has_ended(pod)]
        if mine:
            pod, workflow = facts.name(mine[0]), facts.text(facts.labels(mine[0]).get(WORKFLOW_LABEL))
            message = (
                f"the pipeline server no longer has a record of run {run}, but its pod {namespace}/{pod} still runs"
            )
            change = (
                f"kubectl delete workflow {workflow} -n {namespace} ends it"
                if workflow
                else "delete its Workflow to end it"
            )
            told = f"{message}. Another run is started when it has ended without a result; {change}"
            raise RejectedError("pipelines", shown(told), reason=reasons.RUN_NOT_RECORDED)

    async def look(self, identifier: str, namespace: str, state: str, steps: Sequence[str], *, is_over: bool) -> None:
        """Read the run's pods and Workflow, unless that was done recently. A finished run is read once per state."""
        if self._objects is None or not namespace:
            return
        known, now = self._looks.get(identifier), self._clock.now()
        if known is not None and not self._is_due(known, state, now, is_over=is_over):
            return
        since = known.since if known is not None and known.state == state else now
        elapsed, lost_for, good_at = self._clock.elapsed(), 0.0, known.good_at if known is not None else -inf
        try:
            found, failed = await self._facts(self._objects, identifier, namespace, known), False
        except (OutageError, RejectedError) as error:
            logger.warning("Pods of pipeline run %s in %s cannot be seen: %s", identifier, namespace, error)
            is_stale = not is_over and elapsed - good_at > STALE.total_seconds()
            found, failed = known.facts if known is not None and not is_stale else Facts(namespace), True
        else:
            good_at = elapsed
        if is_over and known is not None:
            found = _with_former(found, known.facts, await self._stopped(self._objects, found, known.facts))
        loss = losses.of_run(found, steps) if not is_over and not failed else None
        if known is not None and loss is not None and known.loss == loss:
            lost_for = known.lost_for + elapsed - known.seen_at
        elif loss is not None and loss.since is not None:
            # An operator that has just started counts the time before it, but looks at least twice: nodes' clocks may differ from
            # ours.
            before = self._clock.age((identifier, "lost"), loss.since)
            lost_for = min(before, LOST - SUSPECTED).total_seconds()
        self._looks[identifier] = _Look(state, since, now, found, failed, loss, lost_for, elapsed, good_at)
        self._looks.move_to_end(identifier)
        while len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)

    def _is_due(self, known: _Look, state: str, now: datetime, *, is_over: bool) -> bool:
        if known.state != state:
            return True
        # A negative age means that the clock was set back: then look, rather than wait until it has caught up.
        if known.failed:
            return not timedelta() <= now - known.at < AFTER_FAILURE
        pause = min(max((now - known.since) / 10, self._shortest), LONGEST)
        return not is_over and not timedelta() <= now - known.at < pause

    async def _facts(self, objects: Objects, identifier: str, namespace: str, known: _Look | None) -> Facts:
        labels = {RUN_LABEL: identifier}
        found = Facts(namespace, trimming.pods(await objects.list(PODS, namespace, labels, most=MOST_PODS)))
        if known is not None:
            found = replace(found, workloads=tuple(filter(facts.admitted_at, known.facts.workloads)))
        for more in (_workflow, self._in_queues, _events):
            try:
                found = await more(objects, identifier, found)
            except RejectedError as error:  # use as much as our rights allow
                logger.debug("Not all of pipeline run %s in %s can be seen: %s", identifier, namespace, error)
        return found

    async def _in_queues(self, objects: Objects, _identifier: str, found: Facts) -> Facts:
        return await self._queues.look(objects, found)

    async def _stopped(self, objects: Objects, found: Facts, before: Facts) -> list[Body]:
        """Pods that disappeared between two looks because Kueue ended them; an event says why."""
        names = {facts.name(pod) for pod in found.pods}
        gone = [pod for pod in before.pods if facts.name(pod) not in names and not facts.has_ended(pod)]
        stopped = []
        with suppress(OutageError, RejectedError):  # they only improve messages
            for pod in gone[:MOST]:
                about = {"involvedObject.kind": "Pod", "involvedObject.name": facts.name(pod), "reason": _STOPPED}
                told = await objects.list(EVENTS, found.namespace, fields=about, most=MOST_EVENTS)
                said = [
                    facts.words(each.get("message"))
                    for each in told
                    if each.get("reason") == _STOPPED and facts.is_about(each, pod)
                ]
                stopped += [trimming.stopped(pod, said[-1])] if said else []
        return stopped


async def _workflow(objects: Objects, identifier: str, found: Facts) -> Facts:
    if not await objects.serves(WORKFLOWS):
        return found
    workflows = await objects.list(WORKFLOWS, found.namespace, {RUN_LABEL: identifier}, most=1)
    there = next((trimming.workflow(each) for each in workflows), None)
    return replace(found, workflow=there, is_known=len(found.pods) < MOST_PODS)


async def _events(objects: Objects, _identifier: str, found: Facts) -> Facts:
    """``found`` with events about pods that were assigned to a node but have not started."""
    waiting = [
        pod for pod in found.pods if facts.phase(pod) == "Pending" and facts.mapping(pod.get("spec")).get("nodeName")
    ]
    asked = [{"involvedObject.kind": "Pod", "involvedObject.name": facts.name(pod)} for pod in waiting[:MOST]]
    told = [
        event
        for fields in asked
        for event in await objects.list(EVENTS, found.namespace, fields=fields, most=MOST_EVENTS)
    ]
    return replace(found, events=tuple(map(trimming.event, told)))


def _with_former(now: Facts, before: Facts, stopped: Sequence[Body]) -> Facts:
    """The facts with those of the previous look added: a run's pods and Workflow are removed some time after it has ended."""
    names = {facts.name(pod) for pod in now.pods}
    former = [pod for pod in before.pods if facts.name(pod) not in names and _is_told(pod)]
    known = names | {facts.name(pod) for pod in former}
    more = [pod for pod in stopped if facts.name(pod) not in known]
    return replace(now, pods=(*now.pods, *former, *more), workflow=now.workflow or before.workflow)


def _is_told(pod: Body) -> bool:
    """Whether the pod had ended when it was last seen, or was being ended by Kueue."""
    return facts.has_ended(pod) or bool(facts.condition(pod, facts.STOPPED))
