"""Sealed records of what was made, in the store, by namespace, kind and name of the resource and by what it was made from.

A cluster that is rebuilt, or restored from a backup, gives its resources new uids and no status: with the records, and the key
that sealed them, they find what their former lives made. A record is of its namespace and its name alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.storage_paths import below

RECORD = "record"
"""What their seals are for."""
SEAL = "seal"
MOST_LIVES = 100
"""Lives of a resource that its records name, the last ones."""

Record = Mapping[str, Any]


def folder(resource: Resource, tenant: Tenant) -> str:
    """Where the records of a resource, and of those that had its name before, are."""
    return below(tenant, f"records/{resource.namespace}/{resource.kind.plural}/{resource.name}")


def path(resource: Resource, key: str, tenant: Tenant) -> str:
    """Where the record of what was made from ``key``, a digest, is."""
    return f"{folder(resource, tenant)}/{key.removeprefix('sha256:')}.json"


def newest_path(resource: Resource, tenant: Tenant) -> str:
    """Where the record that was kept last is once more, of kinds that make one thing after another."""
    return f"{folder(resource, tenant)}/newest.json"


def begun(resource: Resource, key: str, former: Record | None = None) -> dict[str, Any]:
    """What every record says of itself; ``former`` is what was on record before."""
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
    await dependencies.objects.write_json(path, {**record, SEAL: dependencies.authority.seal(RECORD, record)})


async def find(resource: Resource, key: str, tenant: Tenant, dependencies: Dependencies) -> Record | None:
    """The record of what was made from ``key``; None when there is none under our seal."""
    found = await _read(resource, path(resource, key, tenant), dependencies)
    return found if found is not None and found.get("key") == key else None


async def newest(resource: Resource, tenant: Tenant, dependencies: Dependencies) -> Record | None:
    """The record that was kept last."""
    return await _read(resource, newest_path(resource, tenant), dependencies)


async def _read(resource: Resource, path: str, dependencies: Dependencies) -> Record | None:
    try:
        document = await dependencies.objects.read_json(path)
    except RejectedError:  # Somebody else has been here; without our seal it counts for nothing anyway.
        return None
    if document is None:
        return None
    record = {name: value for name, value in document.items() if name != SEAL}
    if not dependencies.authority.holds(RECORD, record, document.get(SEAL)):
        return None
    stated = (record.get("kind"), record.get("namespace"), record.get("name"))
    return record if stated == (resource.kind.kind, resource.namespace, resource.name) else None
