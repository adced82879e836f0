"""Where a resource stores things: its tenant's part of the object store and of the data volume, and its runs' reports.

No source of a uri is trusted, be it a status, a report or a tag in MLflow. Every uri is checked to be within the namespace's own
part (``Scope.is_inside``) before it is passed to a step, a model server or a deletion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos.api.stages import StageProgress
from pelagos.decisions.reports import Report
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import PipelineRun, RunName, RunState
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.scope import Scope
from pelagos_contract import progress, sealing
from pelagos_contract.progress import Progress

STORAGE = "storage"
"""The purpose that the seal of a storage prefix is made for; see ports.authority."""
DATASETS, MODELS = "datasets", "models"
"""Top folders of dataset versions and of model packages in the object store; below each <namespace>/<uid>."""


def report_folder(run_name: str, tenant: Tenant) -> str:
    """The folder in which a pipeline run leaves its outcome."""
    return tenant.below(f"reports/{run_name}")


def workspace(run_name: str, tenant: Tenant) -> str:
    """The folder of a pipeline run's checkpoints."""
    return tenant.below(f"workspaces/{run_name}")


def data_root(scope: Scope) -> str:
    """The path at which pipelines find the tenant's part of the data volume."""
    root = scope.dependencies.volumes.root.rstrip("/")
    return "/".join(part for part in (root, scope.tenant.storage_prefix) if part)


async def read_report(scope: Scope, run: PipelineRun) -> Report:
    """The outcome that the run's steps left. Anything that they did not write ends up in ``doubt`` and counts for nothing."""
    return await _read_report(scope, run.name, run.attempt)


async def read_result(scope: Scope, name: RunName) -> Report:
    """The result of any attempt of a run that the engine does not know, since engines delete their records after some time."""
    return Report(result=(await _read_report(scope, name, None)).result)


async def read_progress(scope: Scope, run: PipelineRun | None) -> Progress | None:
    """The progress that the steps of this attempt report. None when there is none under a valid seal, or status has all of it."""
    stated = Recalled(scope.resource).progress(StageProgress)
    is_told = stated is not None and bool(stated.stages) and stated.stage is None
    if run is None or (run.state is RunState.SUCCEEDED and is_told):
        return None
    path = f"{report_folder(run.name, scope.tenant)}/{progress.DOCUMENT}"
    try:
        content = await scope.dependencies.objects.read_bytes(path, limit=progress.LARGEST)
    except RejectedError:
        return None
    found = progress.parsed(content) if content is not None else None
    if found is None:
        return None
    namespace, authority = scope.resource.namespace, scope.dependencies.authority
    told, _ = authority.unseal(namespace, run.name, run.attempt, found, sealing.PROGRESS)
    return progress.understood(told) if told is not None else None


async def _read_report(scope: Scope, name: RunName, attempt: int | None) -> Report:
    objects, folder = scope.dependencies.objects, report_folder(name, scope.tenant)
    doubts = []
    for kind in ("result", "failure"):
        try:
            found = await objects.read_json(f"{folder}/{kind}.json")
        except RejectedError as error:
            doubts.append(str(error))
            continue
        if found is None:
            continue
        content, doubt = scope.dependencies.authority.unseal(scope.resource.namespace, name, attempt, found)
        if content is not None:
            return Report(result=content) if kind == "result" else Report(failure=content)
        doubts.append(f"{objects.uri(folder)}/{kind}.json is not what its steps wrote: {doubt}")
    return Report(doubt="; ".join(doubts))


def checked(scope: Scope, report: Report, described: Mapping[str, Any] | None, folder: str) -> Report:
    """The report, or a doubt if ``described``, the part of it that names a uri, is outside ``folder``."""
    if described is None or scope.is_inside(described.get("uri"), folder):
        return report
    where = scope.dependencies.objects.uri(folder)
    return Report(doubt=f"its result names {described.get('uri')}, which is not below {where}")


async def scope_of(resource: Resource, dependencies: Dependencies, *, recorded: str | None = None) -> Scope:
    """The scope of a resource: the tenant settings of its namespace, with the storage prefix that the resource began with.

    Stored objects stay where they are, even if the settings change. The prefix in status counts under our seal only, since a
    status can be restored or written by others. ``recorded`` is the prefix from another sealed source, in case status was lost.
    Raises RejectedError when the tenant settings are unusable, or an unsealed prefix contradicts them. Not for a resource that is
    being deleted, which needs only the prefix: unusable settings must not block that.
    """
    began = _began(resource, dependencies)
    if began is None and recorded is not None:
        began = recorded
    if resource.deleting and began is not None:
        return Scope(resource, Tenant(storage_prefix=began), dependencies)
    try:
        tenant = await dependencies.tenants.find(resource.namespace)
    except RejectedError:
        if not resource.deleting:
            raise
        return Scope(resource, Tenant(), dependencies)  # It never began, so there is nothing to find.
    stated = Recalled(resource).storage_prefix
    if began is None and stated not in (None, tenant.storage_prefix) and not resource.deleting:
        message = (
            f'status.storagePrefix is "{stated}", without a seal of this operator, and the storage prefix of namespace '
            f'{resource.namespace} is "{tenant.storage_prefix}". Nothing outside of it is touched. Give the namespace the '
            "prefix that its objects were stored below, or remove the field from status to begin below the present one"
        )
        raise RejectedError("storage", message)
    return Scope(resource, tenant if began is None else replace(tenant, storage_prefix=began), dependencies)


def prefixes(namespace: str, dependencies: Dependencies) -> tuple[Tenant, ...]:
    """The storage prefixes that resources of a namespace began with, as far as they are under our seal."""
    known = {_began(found, dependencies) for found in dependencies.cache.all() if found.namespace == namespace}
    return tuple(Tenant(storage_prefix=prefix) for prefix in known if prefix is not None)


def storage_seal(scope: Scope) -> str:
    """The seal of the storage prefix, which goes into status beside it."""
    claim = _claim(scope.resource, scope.tenant.storage_prefix)
    return scope.dependencies.authority.seal(STORAGE, claim)


def _began(resource: Resource, dependencies: Dependencies) -> str | None:
    """The storage prefix in status, if it is under our seal; None otherwise."""
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
