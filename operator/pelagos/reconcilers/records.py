"""Sealed records of results in the object store, by namespace, kind and name of the resource and by the digest of the inputs.

In a cluster that is rebuilt, or restored from a backup, resources have new uids and no status. With the records, and the key that
sealed them, they find the results of their former lives. A record counts for its own namespace and name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.ports.errors import RejectedError
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.scope import Scope

RECORD = "record"
"""The purpose that a record's seal is made for; see ports.authority."""
SEAL = "seal"
MOST_LIVES = 100
"""How many lives of a resource, the most recent ones, a record names at most."""

Record = Mapping[str, Any]


def folder(scope: Scope) -> str:
    """The folder with the records of a resource, and of earlier ones with its name."""
    return f"{scope.namespace_folder('records')}/{scope.resource.kind.plural}/{scope.resource.name}"


def path(scope: Scope, key: str) -> str:
    """The path of the record of the result made from ``key``, a digest of inputs."""
    return f"{folder(scope)}/{key.removeprefix('sha256:')}.json"


def newest_path(scope: Scope) -> str:
    """The path of a second copy of the record that was kept last, for kinds that make one result after another."""
    return f"{folder(scope)}/newest.json"


def begun(scope: Scope, key: str, former: Record | None = None) -> dict[str, Any]:
    """The fields that every record has; ``former`` is the record that this one replaces."""
    resource = scope.resource
    # Cut at the old end: a record that is kept for years stays small.
    return {
        "kind": resource.kind.kind,
        "namespace": resource.namespace,
        "name": resource.name,
        "key": key,
        "lives": [*(uid for uid in lives(former) if uid != resource.uid), resource.uid][-MOST_LIVES:],
    }


def lives(record: Record | None) -> tuple[str, ...]:
    """The uids of the resources that made or adopted the recorded result, most recent last."""
    return tuple(record.get("lives") or ()) if record is not None else ()


async def keep(path: str, record: Record, dependencies: Dependencies) -> None:
    """Write a record under our seal."""
    # Sealed here and not in the decision: decisions hold no keys, and the key may be replaced between two attempts.
    await dependencies.objects.write_json(path, {**record, SEAL: dependencies.authority.seal(RECORD, record)})


async def find(scope: Scope, key: str) -> Record | None:
    """The record of the result made from ``key``; None when there is none under our seal."""
    found = await _read(scope, path(scope, key))
    # The seal covers the key, so a sealed record copied to another path does not pass for one of other inputs.
    return found if found is not None and found.get("key") == key else None


async def newest(scope: Scope) -> Record | None:
    """The record that was kept last; None when there is none under our seal."""
    return await _read(scope, newest_path(scope))


async def _read(scope: Scope, path: str) -> Record | None:
    resource, authority = scope.resource, scope.dependencies.authority
    try:
        document = await scope.dependencies.objects.read_json(path)
    except RejectedError:  # Not JSON, so somebody else wrote it. Without our seal it would not count anyway.
        return None
    if document is None:
        return None
    record = {name: value for name, value in document.items() if name != SEAL}
    if not authority.holds(RECORD, record, document.get(SEAL)):
        return None
    # The seal only proves that one of our resources made the record. Anyone who can write to the store could copy the record of
    # another namespace here and so get at its versions or models. The record must therefore name this very resource.
    stated = (record.get("kind"), record.get("namespace"), record.get("name"))
    return record if stated == (resource.kind.kind, resource.namespace, resource.name) else None
