"""Where the things of a resource lie: its tenant's part of the object store and of the data volume, and its runs' reports."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions.reports import Report
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.world import World


def report_folder(run_name: str, tenant: Tenant) -> str:
    """Folder in which a pipeline run leaves its outcome."""
    return below(tenant, f"reports/{run_name}")


def below(tenant: Tenant, path: str) -> str:
    """The path in the part of the store, or of the data volume, that is the tenant's."""
    return f"{tenant.storage_prefix}/{path}" if tenant.storage_prefix else path


def data_root(tenant: Tenant, world: World) -> str:
    """Where pipelines find the tenant's part of the data volume."""
    return "/".join(part for part in (world.volumes.root.rstrip("/"), tenant.storage_prefix) if part)


async def read_report(world: World, run_name: str, tenant: Tenant) -> Report:
    """The outcome that a pipeline run left."""
    folder = report_folder(run_name, tenant)
    result = await world.objects.read_json(f"{folder}/result.json")
    failure = None if result else await world.objects.read_json(f"{folder}/failure.json")
    return Report(result=result, failure=failure)


async def tenant_of(resource: Resource, world: World, *, recorded: str | None = None) -> Tenant:
    """The conventions of the resource's namespace, with the storage prefix that the resource began with.

    What is stored stays where it was put, whatever the conventions say later. ``recorded`` is that prefix from elsewhere, for
    when status was lost. A resource that is deleted needs no more than the prefix, and no conventions that can be used.
    """
    began = resource.status.get("storagePrefix", recorded)
    if resource.deleting and began is not None:
        return Tenant(storage_prefix=began)
    try:
        tenant = await world.tenants.find(resource.namespace)
    except RejectedError:
        if not resource.deleting:
            raise
        return Tenant()  # Nothing was begun here, so that there is nothing to find.
    return tenant if began is None else replace(tenant, storage_prefix=began)
