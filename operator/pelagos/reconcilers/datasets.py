"""Gathers what is known about a Dataset, and cleans up after it."""

from __future__ import annotations

from pelagos.api import kinds, meta
from pelagos.api.dataset import DatasetSpec
from pelagos.decisions import dataset
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import FINISHED, PipelineRun
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.belongings import (
    below,
    checked,
    data_root,
    read_report,
    report_folder,
    storage_seal,
    tenant_of,
)
from pelagos.reconcilers.world import World


def store(resource: Resource, tenant: Tenant) -> str:
    """Folder of the versions of a Dataset in the object store."""
    return below(tenant, f"datasets/{resource.namespace}/{resource.uid}")


class DatasetReconciler:
    """See driver.Reconciler."""

    kind = kinds.DATASET
    conditions = dataset.CONDITIONS

    async def gather(self, resource: Resource, spec: DatasetSpec, world: World) -> dataset.Observed:
        """Look at the source, at the run for its present content, and at the run's report."""
        world.authority.require()
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
            report = await read_report(world, resource.namespace, run, tenant)
            report = checked(report, report.result, store(resource, tenant), world)
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
            storage_seal=storage_seal(resource, tenant, world),
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
