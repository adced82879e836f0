"""Cleaning up that ends: a system that keeps us out for long is left alone, so that a resource, and its namespace, can go.

Called by the driver for resources that are being deleted. A namespace that is deleted takes the binding that let the operator in
with it, often before our resources are done; nobody can mend that afterwards, and the namespace would stay for ever.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from pelagos.ports.cluster import Resource
from pelagos.ports.errors import ForbiddenError, UnboundError
from pelagos.ports.owned import Owned
from pelagos.ports.pipelines import PipelineRun, RunName, RunRequest
from pelagos.ports.serving import ProbeResult, ServiceSeen, ServiceWant
from pelagos.reconcilers import forcing
from pelagos.reconcilers.world import World

logger = logging.getLogger("pelagos.reconcile")

LONGEST = timedelta(minutes=15)
"""After its deletion, a resource waits no longer for pipelines that we may not see: time enough to mend a binding."""

CleanUp = Callable[[Resource, World], Awaitable[None]]


async def clean_up(how: CleanUp, resource: Resource, world: World) -> None:
    """Clean up; what we are forbidden to touch is left, with a Warning event, and all else is done.

    Pipelines are left after a while. What serves belongs to its ModelService: the cluster removes it when that is gone.
    """
    if forcing.is_wanted(resource, world):
        await forcing.clean_up(how, resource, world)
        return
    try:
        await how(resource, world)
    except UnboundError as error:
        await how(resource, dataclasses.replace(world, serving=NoServing()))
        await _tell(
            resource, world, f"what served was left for the cluster to remove, since we have no rights there: {error}"
        )
    except ForbiddenError as error:
        if resource.deleted_at is None or world.clock.age((resource.uid, "deleted"), resource.deleted_at) < LONGEST:
            raise
        await how(resource, dataclasses.replace(world, pipelines=NoPipelines()))
        minutes = int(LONGEST.total_seconds() / 60)
        message = f"pipeline runs were left where they are, since we were kept out for {minutes} minutes: {error}"
        await _tell(resource, world, message)


async def _tell(resource: Resource, world: World, message: str) -> None:
    about = {"kind": resource.kind.kind, "namespace": resource.namespace, "resource": resource.name}
    logger.warning("CleanUpAbandoned: %s", message, extra=about)
    await world.cluster.post_event(resource, severity="Warning", reason="CleanUpAbandoned", message=message)


class NoServing:
    """Implements Serving where there is none."""

    async def observe(self, uid: str) -> ServiceSeen | None:
        """None."""
        del uid
        return None

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """None."""
        del namespaces
        return ()

    async def apply(self, want: ServiceWant) -> None:
        """Nothing can be served here."""
        raise UnboundError("serving", f"{want.name} cannot be served for a resource that is being deleted")

    async def probe(self, uid: str) -> ProbeResult:
        """Nothing answers."""
        return ProbeResult(correct=False, message=f"nothing serves {uid}", latency=0.0)

    async def restart(self, uid: str) -> None:
        """No effect where nothing serves."""

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """No effect where nothing serves."""


class NoPipelines:
    """Implements Pipelines where there are none."""

    async def find(self, name: RunName) -> PipelineRun | None:
        """None."""
        del name
        return None

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """None."""
        del uid
        return ()

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """None."""
        del namespaces
        return ()

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Nothing can be run here."""
        raise ForbiddenError("pipelines", f"{request.name} cannot be run for a resource that is being deleted")

    async def cancel(self, name: RunName) -> None:
        """No effect on unknown runs."""

    async def delete(self, name: RunName) -> None:
        """No effect on unknown runs."""
