"""Gathers what is known about a Dataset, and cleans up after it."""

from __future__ import annotations

from dataclasses import replace

from pelagos.api import kinds, meta
from pelagos.api.dataset import DatasetSpec
from pelagos.decisions import dataset
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import FINISHED, PipelineRun
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.world import World


def store(resource: Resource, tenant: Tenant) -> str:
    """Folder of the versions of a Dataset in the object store."""
    return below(tenant, f"datasets/{resource.namespace}/{resource.uid}")


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


class DatasetReconciler:
    """See driver.Reconciler."""

    kind = kinds.DATASET
    conditions = dataset.CONDITIONS

    async def gather(self, resource: Resource, spec: DatasetSpec, world: World) -> dataset.Observed:
        """Look at the source, at the run for its present content, and at the run's report."""
        tenant = await tenant_of(resource, world)
        fingerprint, source_error = None, None
        try:
            fingerprint = await world.volumes.fingerprint(below(tenant, spec.source.volume.path))
        except RejectedError as error:
            source_error = f"spec.source.volume.path: {error}"
        run, report, name, digest = None, Report(), "", ""
        if fingerprint is not None:
            digest = dataset.inputs_digest(spec, fingerprint)
            name = dataset.name_run(resource.uid, digest)
            run = await world.pipelines.find(name)
        if run is not None:
            report = await read_report(world, name, tenant)
        return dataset.Observed(
            spec=spec,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            retry=resource.annotations.get(meta.RETRY_ANNOTATION, ""),
            fingerprint=fingerprint,
            source_error=source_error,
            run=run,
            report=report,
            superseded=await _superseded(resource, name, digest, world),
            history=tuple(resource.status.get("versions") or ()),
            data_root=data_root(tenant, world),
            store=world.objects.uri(store(resource, tenant)),
            report_folder=world.objects.uri(report_folder(name, tenant)) if name else "",
            now=world.clock.now(),
            tenant=tenant,
        )

    def decide(self, seen: dataset.Observed) -> Decision:
        """See decisions.dataset."""
        return dataset.decide(seen)

    async def clean_up(self, resource: Resource, world: World) -> None:
        """End all runs; remove versions when told to."""
        tenant = await tenant_of(resource, world)
        for run in await world.pipelines.find_owned(resource.uid):
            await world.pipelines.cancel(run.name)
            await world.objects.delete(report_folder(run.name, tenant))
            await world.pipelines.delete(run.name)  # Last: without its record nobody knows what else to remove.
        if resource.spec.get("deletionPolicy") == "Delete":
            await world.objects.delete(store(resource, tenant))


async def _superseded(resource: Resource, name: str, digest: str, world: World) -> tuple[PipelineRun, ...]:
    """Runs under way for earlier content or an earlier recipe; looked for only when either has changed since the last pass."""
    if resource.status.get("inputsDigest") in (None, digest):
        return ()
    owned = await world.pipelines.find_owned(resource.uid)
    return tuple(run for run in owned if run.name != name and run.state not in FINISHED)
