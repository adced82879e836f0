"""Sealed records of what was made, in the store, by namespace, kind and name of the resource and by what it was made from.

A cluster that is rebuilt, or restored from a backup, gives its resources new uids and no status: with the records, and the key
that sealed them, they find what their former lives made. A record is of its namespace and its name alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.ports.errors import RejectedError
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.scope import Scope

RECORD = "record"
"""What their seals are for."""
SEAL = "seal"
MOST_LIVES = 100
"""Lives of a resource that its records name, the last ones."""

Record = Mapping[str, Any]


def folder(scope: Scope) -> str:
    """Where the records of a resource, and of those that had its name before, are."""
    return f"{scope.namespace_folder('records')}/{scope.resource.kind.plural}/{scope.resource.name}"


def path(scope: Scope, key: str) -> str:
    """Where the record of what was made from ``key``, a digest, is."""
    return f"{folder(scope)}/{key.removeprefix('sha256:')}.json"


def newest_path(scope: Scope) -> str:
    """Where the record that was kept last is once more, of kinds that make one thing after another."""
    return f"{folder(scope)}/newest.json"


def begun(scope: Scope, key: str, former: Record | None = None) -> dict[str, Any]:
    """What every record says of itself; ``former`` is what was on record before."""
    resource = scope.resource
    # The list only grows by one life at a time and is cut at its beginning: a record that was kept for years stays small.
    return {
        "kind": resource.kind.kind,
        "namespace": resource.namespace,
        "name": resource.name,
        "key": key,
        "lives": [*(uid for uid in lives(former) if uid != resource.uid), resource.uid][-MOST_LIVES:],
    }


def lives(record: Record | None) -> tuple[str, ...]:
    """The uids of the resources that made, or found, what is on record; the last one last."""
    return tuple(record.get("lives") or ()) if record is not None else ()


async def keep(path: str, record: Record, dependencies: Dependencies) -> None:
    """Write a record, with our seal."""
    # Sealed here and not when it is decided: decisions hold no keys, and the key may have been replaced between two tries.
    await dependencies.objects.write_json(path, {**record, SEAL: dependencies.authority.seal(RECORD, record)})


async def find(scope: Scope, key: str) -> Record | None:
    """The record of what was made from ``key``; None when there is none under our seal."""
    found = await _read(scope, path(scope, key))
    # The seal covers the key: a sealed record that was copied to another name must not pass for one of other inputs.
    return found if found is not None and found.get("key") == key else None


async def newest(scope: Scope) -> Record | None:
    """The record that was kept last."""
    return await _read(scope, newest_path(scope))


async def _read(scope: Scope, path: str) -> Record | None:
    resource, authority = scope.resource, scope.dependencies.authority
    try:
        document = await scope.dependencies.objects.read_json(path)
    except RejectedError:  # Not JSON: somebody else wrote it, and without our seal it would count for nothing anyway.
        return None
    if document is None:
        return None
    record = {name: value for name, value in document.items() if name != SEAL}
    if not authority.holds(RECORD, record, document.get(SEAL)):
        return None
    # Our seal alone proves that some resource of ours made it. Anybody who can write to the store could copy the record of
    # another namespace here, and have its versions or models handed out; so the record must name this very resource.
    stated = (record.get("kind"), record.get("namespace"), record.get("name"))
    return record if stated == (resource.kind.kind, resource.namespace, resource.name) else None
