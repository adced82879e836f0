"""Clean-up that terminates: a system that denies access for too long is skipped, so that the resource can be deleted.

Called by the driver for resources that are being deleted. When a namespace is deleted, the RoleBinding that gave the operator its
rights goes with it, often before our resources are done. Nobody can restore it then, and the namespace would stay forever.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from pelagos.api import reasons
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import ForbiddenError, UnboundError
from pelagos.ports.owned import Owned
from pelagos.ports.pipelines import PipelineRun, RunName, RunRequest
from pelagos.ports.serving import DesiredService, ObservedService, ProbeResult
from pelagos.reconcilers import forcing
from pelagos.reconcilers.dependencies import Dependencies

logger = logging.getLogger("pelagos.reconcile")

LONGEST = timedelta(minutes=15)
"""How long after its deletion a resource waits for pipelines that we have no access to: time enough to repair a binding."""

CleanUp = Callable[[Resource, Dependencies], Awaitable[None]]


async def clean_up(how: CleanUp, resource: Resource, dependencies: Dependencies) -> None:
    """Clean up with ``how``. Objects that we have no rights to are left behind, with a Warning event; the rest is cleaned up.

    Pipelines are left behind after ``LONGEST``, and ForbiddenError is raised until then. A model server is left behind at once,
    because the cluster removes it together with the ModelService that owns it.
    """
    if forcing.is_wanted(resource, dependencies):
        await forcing.clean_up(how, resource, dependencies)
        return
    try:
        await how(resource, dependencies)
    except UnboundError as error:
        # Once more from the beginning, which is safe because cleaning up is idempotent; only serving is left out.
        await how(resource, dataclasses.replace(dependencies, serving=NoServing()))
        await _tell(
            resource,
            dependencies,
            f"its servers were left for the cluster to remove, because we have no rights there: {error}",
        )
    except ForbiddenError as error:
        # Raised at first: the driver reports that the deletion is blocked, and retries, so that a person can restore the rights.
        if (
            resource.deleted_at is None
            or dependencies.clock.age((resource.uid, "deleted"), resource.deleted_at) < LONGEST
        ):
            raise
        await how(resource, dataclasses.replace(dependencies, pipelines=NoPipelines()))
        minutes = int(LONGEST.total_seconds() / 60)
        message = f"pipeline runs were left where they are, because we had no access for {minutes} minutes: {error}"
        await _tell(resource, dependencies, message)


async def _tell(resource: Resource, dependencies: Dependencies, message: str) -> None:
    about = {"kind": resource.kind.kind, "namespace": resource.namespace, "resource": resource.name}
    logger.warning("CleanUpAbandoned: %s", message, extra=about)
    await dependencies.cluster.post_event(
        resource, severity="Warning", reason=reasons.CLEAN_UP_ABANDONED, message=message
    )


class NoServing:
    """Implements Serving as if nothing were served."""

    async def observe(self, uid: str) -> ObservedService | None:
        """Finds no service."""
        del uid
        return None

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """Finds no services."""
        del namespaces
        return ()

    async def apply(self, want: DesiredService) -> None:
        """Raises UnboundError."""
        raise UnboundError("serving", f"{want.name} cannot be served for a resource that is being deleted")

    async def probe(self, uid: str) -> ProbeResult:
        """Returns a failed probe."""
        return ProbeResult(correct=False, message=f"nothing serves {uid}", latency=0.0)

    async def restart(self, uid: str) -> None:
        """No effect where nothing serves."""

    async def retire(self, uid: str) -> None:
        """No effect where nothing serves."""

    async def stop(self, uid: str) -> None:
        """No effect where nothing serves."""

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """No effect where nothing serves."""


class NoPipelines:
    """Implements Pipelines as if there were no runs."""

    async def find(self, name: RunName) -> PipelineRun | None:
        """Finds no run."""
        del name
        return None

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """Finds no runs."""
        del uid
        return ()

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """Finds no runs."""
        del namespaces
        return ()

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Raises ForbiddenError."""
        raise ForbiddenError("pipelines", f"{request.name} cannot be run for a resource that is being deleted")

    async def cancel(self, name: RunName) -> None:
        """No effect on unknown runs."""

    async def delete(self, name: RunName) -> None:
        """No effect on unknown runs."""
