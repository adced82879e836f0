"""Clean-up that a person forces: removes everything that can be removed, and names everything that is left behind.

Called by ``cleanup`` for resources that are being deleted and carry the annotation. A system that will never answer again would
keep them, and their namespace, forever. With the annotation, a person asserts that it does not come back. ``pelagos orphans``
finds it later.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pelagos.api import meta, reasons
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.dependencies import Dependencies

logger = logging.getLogger("pelagos.reconcile")

AFTER = timedelta(minutes=1)
"""How long the ordinary clean-up is tried even when deletion is forced: the annotation may be set from the beginning."""
PORTS = ("pipelines", "tracking", "registry", "serving", "objects", "tenants")
_NOTHING: dict[str, Any] = {"find_owned": (), "find_runs": (), "names": (), "exists": False, "tenants.find": Tenant()}
"""Results of port calls whose system did not answer, by port and method or by method; those not listed return None."""
_LEFT = {
    "pipelines.find_owned": "pipeline runs with the label pelagos.dev/uid={0}, and their reports and workspaces",
    "pipelines.cancel": "pipeline run {0}, which may still run",
    "pipelines.delete": "pipeline run {0}",
    "tracking.find_runs": "tracked runs with the tag pelagos.dev/uid={0}",
    "tracking.get_run": "tracked run {0}",
    "tracking.set_outcome": "tracked run {0}, which is not marked as ended",
    "tracking.delete_run": "tracked run {0}",
    "registry.find_by_uid": "versions of the registered model {0} with the tag pelagos.dev/uid={1}",
    "registry.delete_version": "version {1} of the registered model {0}",
    "serving.remove": "model servers with the label pelagos.dev/uid={0}",
    "tenants.find": "what lies below the storage prefix of namespace {0}, which cannot be determined now",
}

CleanUp = Callable[[Resource, Dependencies], Awaitable[None]]


def is_wanted(resource: Resource, dependencies: Dependencies) -> bool:
    """Whether a person forces the deletion of this resource, and the ordinary clean-up was tried for ``AFTER``."""
    if resource.annotations.get(meta.FORCE_DELETION_ANNOTATION) != "true":
        return False
    deleted = resource.deleted_at or dependencies.clock.now()
    return dependencies.clock.age((resource.uid, "deleted"), deleted, once=True) >= AFTER


def hint(resource: Resource) -> str:
    """Advice to a person about a deletion that is blocked."""
    kind, name = resource.kind.plural, resource.name
    return (
        f"If that system is lost for good: kubectl -n {resource.namespace} annotate {kind}.{meta.GROUP} {name} "
        f"{meta.FORCE_DELETION_ANNOTATION}=true; a minute after its deletion it is then removed, and what is left behind is named"
    )


async def clean_up(how: CleanUp, resource: Resource, dependencies: Dependencies) -> None:
    """Clean up as far as possible. A Warning event and the log name everything that is left behind."""
    left: list[str] = []
    ports: dict[str, Any] = {name: _Forced(getattr(dependencies, name), name, left, dependencies) for name in PORTS}
    try:
        await how(resource, dataclasses.replace(dependencies, **ports))
    except Exception as error:
        # Also errors that no port raised, such as a missing key or a bug of ours: they would block the deletion too.
        left.append(f"what could not be looked for ({type(error).__name__}: {error})")
    if not left:
        return
    named = "; ".join(dict.fromkeys(left))
    about = {"kind": resource.kind.kind, "namespace": resource.namespace, "resource": resource.name}
    message = f"deletion was forced by {meta.FORCE_DELETION_ANNOTATION}. Left behind: {named}"
    logger.warning("DeletionForced: %s", message, extra=about)
    short = f"{message[:900]}... (all of it is in the operator's log)" if len(message) > 950 else message
    await dependencies.cluster.post_event(resource, severity="Warning", reason=reasons.DELETION_FORCED, message=short)


class _Forced:
    """Wraps a port: a failed call is noted in ``left`` and raises nothing. After an outage, the system is not asked again."""

    def __init__(self, port: object, system: str, left: list[str], dependencies: Dependencies) -> None:
        self._port = port
        self._system = system
        self._left = left
        self._dependencies = dependencies
        self._is_away = False

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if name in {"uri", "path"}:  # Computed without asking the system.
            return member

        @functools.wraps(member)
        async def call(*arguments: Any, **named: Any) -> Any:
            if not self._is_away:
                try:
                    return await member(*arguments, **named)
                except (OutageError, RejectedError) as error:
                    # Not after a refusal: the system works, and may grant the next call.
                    self._is_away = isinstance(error, OutageError)
            if self._system == "objects":
                self._left.append(self._dependencies.objects.uri(arguments[0]))
            elif f"{self._system}.{name}" in _LEFT:
                self._left.append(_LEFT[f"{self._system}.{name}"].format(*arguments))
            return _NOTHING.get(f"{self._system}.{name}", _NOTHING.get(name))

        return call
