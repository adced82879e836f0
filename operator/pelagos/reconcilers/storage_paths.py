"""Where the things of a resource lie: its tenant's part of the object store and of the data volume, and its runs' reports.

What names a place (a status, a report, a tag of MLflow) is not believed: every uri is held against the namespace's own part here,
before it is given to a step, a model server or a deletion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos.decisions.reports import Report
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import PipelineRun, RunName
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled

STORAGE = "storage"
"""What a seal of a storage prefix is for."""


def report_folder(run_name: str, tenant: Tenant) -> str:
    """Folder in which a pipeline run leaves its outcome."""
    return below(tenant, f"reports/{run_name}")


def below(tenant: Tenant, path: str) -> str:
    """The path in the part of the store, or of the data volume, that is the tenant's."""
    return f"{tenant.storage_prefix}/{path}" if tenant.storage_prefix else path


def data_root(tenant: Tenant, dependencies: Dependencies) -> str:
    """Where pipelines find the tenant's part of the data volume."""
    return "/".join(part for part in (dependencies.volumes.root.rstrip("/"), tenant.storage_prefix) if part)


def is_inside(uri: object, folder: str, dependencies: Dependencies) -> bool:
    """Whether a uri is one of our store, and below ``folder`` there; no part of it leads up, or is empty."""
    path = dependencies.objects.path(uri) if isinstance(uri, str) else None
    return path is not None and path.startswith(f"{folder}/") and not {"", ".", ".."} & set(path.split("/"))


async def read_report(dependencies: Dependencies, namespace: str, run: PipelineRun, tenant: Tenant) -> Report:
    """The outcome that a pipeline run left, if one of its steps did: whatever else lies there is a doubt, and nothing more."""
    return await _read_report(dependencies, namespace, run.name, run.attempt, tenant)


async def read_result(dependencies: Dependencies, namespace: str, name: RunName, tenant: Tenant) -> Report:
    """The result that any attempt of a run left of which the engine knows nothing: it keeps its records for a while only."""
    return Report(result=(await _read_report(dependencies, namespace, name, None, tenant)).result)


async def _read_report(
    dependencies: Dependencies, namespace: str, name: RunName, attempt: int | None, tenant: Tenant
) -> Report:
    folder = report_folder(name, tenant)
    doubts = []
    for kind in ("result", "failure"):
        try:
            found = await dependencies.objects.read_json(f"{folder}/{kind}.json")
        except RejectedError as error:
            doubts.append(str(error))
            continue
        if found is None:
            continue
        content, doubt = dependencies.authority.unseal(namespace, name, attempt, found)
        if content is not None:
            return Report(result=content) if kind == "result" else Report(failure=content)
        doubts.append(f"{dependencies.objects.uri(folder)}/{kind}.json is not what its steps wrote: {doubt}")
    return Report(doubt="; ".join(doubts))


def checked(report: Report, described: Mapping[str, Any] | None, folder: str, dependencies: Dependencies) -> Report:
    """The report, unless what it describes lies outside of ``folder``."""
    if described is None or is_inside(described.get("uri"), folder, dependencies):
        return report
    where = dependencies.objects.uri(folder)
    return Report(doubt=f"its result names {described.get('uri')}, which is not below {where}")


async def tenant_of(resource: Resource, dependencies: Dependencies, *, recorded: str | None = None) -> Tenant:
    """The tenant settings of the resource's namespace, with the storage prefix that the resource began with.

    What is stored stays where it was put, whatever the settings say later: under our seal, since a status can be restored or
    written by others. ``recorded`` is that prefix from elsewhere, vouched for already, for when status was lost. A resource that
    is deleted needs no more than the prefix, and no tenant settings that can be used; without either, nothing was begun.
    """
    began = _began(resource, dependencies)
    if began is None and recorded is not None:
        began = recorded
    if resource.deleting and began is not None:
        return Tenant(storage_prefix=began)
    try:
        tenant = await dependencies.tenants.find(resource.namespace)
    except RejectedError:
        if not resource.deleting:
            raise
        return Tenant()  # Nothing was begun here, so that there is nothing to find.
    stated = Recalled(resource).storage_prefix
    if began is None and stated not in (None, tenant.storage_prefix) and not resource.deleting:
        raise RejectedError("storage", _unvouched(resource, str(stated), tenant))
    return tenant if began is None else replace(tenant, storage_prefix=began)


def prefixes(namespace: str, dependencies: Dependencies) -> tuple[Tenant, ...]:
    """The storage prefixes, under our seal, that resources of a namespace began with."""
    known = {_began(found, dependencies) for found in dependencies.cache.all() if found.namespace == namespace}
    return tuple(Tenant(storage_prefix=prefix) for prefix in known if prefix is not None)


def sharing(tenant: Tenant) -> tuple[str, ...]:
    """Namespaces that the platform says to share with this one, each naming the other."""
    return tenant.shared_with


def storage_seal(resource: Resource, tenant: Tenant, dependencies: Dependencies) -> str:
    """Goes into status beside the prefix."""
    return dependencies.authority.seal(STORAGE, _claim(resource, tenant.storage_prefix))


def _began(resource: Resource, dependencies: Dependencies) -> str | None:
    """The prefix in status, if it was us who wrote it."""
    prefix = Recalled(resource).storage_prefix
    if not isinstance(prefix, str):
        return None
    sealed = dependencies.authority.holds(STORAGE, _claim(resource, prefix), Recalled(resource).storage_seal)
    return prefix if sealed else None


def _claim(resource: Resource, prefix: str) -> dict[str, str]:
    return {
        "kind": resource.kind.kind,
        "namespace": resource.namespace,
        "uid": resource.uid,
        "storagePrefix": prefix,
    }


def _unvouched(resource: Resource, stated: str, tenant: Tenant) -> str:
    return (
        f'status.storagePrefix is "{stated}", without a seal of this operator, and the storage prefix of namespace '
        f'{resource.namespace} is "{tenant.storage_prefix}". Nothing outside of it is touched. Give the namespace the prefix '
        "that its things were stored below, or remove the field from status to begin below the present one"
    )
