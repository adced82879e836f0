"""Objects whose deletion has not finished: whose finalizer they wait for, and when a person must act. Pure.

Called by model_server.engine. KServe's finalizer stays if its controller is down, and the servers keep running in the meantime.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pelagos.engines.kubernetes.objects import Body, Collection
from pelagos.engines.model_server.options import SYSTEM
from pelagos.ports.clock import Clock
from pelagos.ports.errors import OutageError, UnfinishedError

PATIENCE = timedelta(seconds=45)
"""How long a finalizer may stay before it counts as stuck; a working controller removes it within seconds."""


def is_going(body: Body) -> bool:
    """Whether its deletion was requested."""
    return "deletionTimestamp" in body["metadata"]


def words(kind: Collection, body: Body) -> str:
    """A message about what its deletion waits for."""
    metadata = body["metadata"]
    named = f"{kind.kind} {metadata['name']} in namespace {metadata['namespace']}"
    since = f" since {metadata['deletionTimestamp']}" if is_going(body) else ""
    held = ", ".join(str(name) for name in metadata.get("finalizers") or ())
    if not held:
        return f"{named} is being deleted{since}"
    return (
        f"{named} is being deleted{since} and waits for {held}; until then its servers continue. Check whether the controller "
        "that removes this finalizer runs (KServe's is kserve-controller-manager)"
    )


def unfinished(kind: Collection, body: Body, clock: Clock) -> OutageError:
    """The error for an object that still exists: UnfinishedError within PATIENCE of its deletion, then OutageError."""
    told = body["metadata"].get("deletionTimestamp")
    age = (
        clock.age((body["metadata"]["uid"], "deleted"), datetime.fromisoformat(told), once=True)
        if told
        else timedelta()
    )
    return (UnfinishedError if age < PATIENCE else OutageError)(SYSTEM, words(kind, body))
