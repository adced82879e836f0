"""Looks at the pods and the Workflow of runs, where the rights for it are. Called by the engine kubeflow.

What is seen makes words better; without it a run is told as its server tells it, so nothing here fails a pass.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from pelagos.engines.kubeflow import facts
from pelagos.engines.kubeflow.facts import RUN_LABEL, Facts
from pelagos.engines.kubernetes.objects import Collection
from pelagos.ports.clock import Clock
from pelagos.ports.errors import OutageError, RejectedError

logger = logging.getLogger(__name__)

PODS = Collection("v1", "Pod", "pods")
WORKFLOWS = Collection("argoproj.io/v1alpha1", "Workflow", "workflows")
SHORTEST, LONGEST = timedelta(seconds=5), timedelta(seconds=60)
"""Between two looks at a run that goes on: a tenth of how long it has been so, within these bounds."""
AFTER_FAILURE = timedelta(seconds=30)
REMEMBERED = 5000
"""Runs of which is kept what was seen; those that were not asked for longest go first."""


class Objects(Protocol):
    """Reads objects of the Kubernetes API; see KubernetesObjects."""

    async def list(
        self, kind: Collection, namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Those with all labels. Raises OutageError and RejectedError."""

    async def serves(self, kind: Collection) -> bool:
        """Whether there is such a kind. Raises as ``list``."""


@dataclass
class _Look:
    state: str
    since: datetime
    at: datetime
    facts: Facts
    failed: bool = False


class Sight:
    """Of all runs. Without ``objects`` it sees nothing."""

    def __init__(self, objects: Objects | None, clock: Clock, shortest: timedelta = SHORTEST) -> None:
        self._objects = objects
        self._shortest = shortest
        self._clock = clock
        self._looks: OrderedDict[str, _Look] = OrderedDict()

    def seen(self, identifier: str) -> Facts | None:
        """What was seen last of a run; None when nothing was."""
        look = self._looks.get(identifier)
        return look.facts if look is not None else None

    def forget(self, identifier: str) -> None:
        """The run is gone."""
        self._looks.pop(identifier, None)

    async def look(self, identifier: str, namespace: str, state: str, *, is_over: bool) -> None:
        """See how the run is now, unless that was looked at a moment ago. A run that is over is looked at once in its state."""
        if self._objects is None or not namespace:
            return
        known, now = self._looks.get(identifier), self._clock.now()
        if known is not None and not self._is_due(known, state, now, is_over=is_over):
            return
        since = known.since if known is not None and known.state == state else now
        try:
            found, failed = await self._facts(self._objects, identifier, namespace), False
        except (OutageError, RejectedError) as error:
            logger.warning("Pods of pipeline run %s in %s cannot be seen: %s", identifier, namespace, error)
            found, failed = known.facts if known is not None else Facts(namespace), True
        if is_over and known is not None:
            found = _with_former(found, known.facts)
        self._looks[identifier] = _Look(state, since, now, found, failed)
        self._looks.move_to_end(identifier)
        while len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)

    def _is_due(self, known: _Look, state: str, now: datetime, *, is_over: bool) -> bool:
        if known.state != state:
            return True
        if known.failed:
            return not timedelta() <= now - known.at < AFTER_FAILURE
        pause = min(max((now - known.since) / 10, self._shortest), LONGEST)
        return not is_over and not timedelta() <= now - known.at < pause

    async def _facts(self, objects: Objects, identifier: str, namespace: str) -> Facts:
        labels = {RUN_LABEL: identifier}
        pods = tuple(await objects.list(PODS, namespace, labels))
        try:
            if not await objects.serves(WORKFLOWS):
                return Facts(namespace, pods)
            workflows = await objects.list(WORKFLOWS, namespace, labels)
        except RejectedError as error:  # the right for pods alone tells much
            logger.debug("Workflows in %s cannot be seen: %s", namespace, error)
            return Facts(namespace, pods)
        return Facts(namespace, pods, next(iter(workflows), None), is_known=True)


def _with_former(now: Facts, before: Facts) -> Facts:
    """And what was there before: a run's pods and its Workflow are removed some time after it has ended."""
    names = {facts.name(pod) for pod in now.pods}
    former = [pod for pod in before.pods if facts.name(pod) not in names and facts.has_ended(pod)]
    return replace(now, pods=(*now.pods, *former), workflow=now.workflow or before.workflow)
