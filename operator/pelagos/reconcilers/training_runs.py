"""Gathers what is known about a TrainingRun, and cleans up after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.api import kinds, meta
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions import training_run
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import DatasetSeen, DatasetVersion, Frozen
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.registry import ModelVersion
from pelagos.ports.tenants import Tenant
from pelagos.ports.tracking import Outcome, TrackedRun
from pelagos.reconcilers import reporting
from pelagos.reconcilers.belongings import below, data_root, read_report, report_folder, tenant_of
from pelagos.reconcilers.world import World


def store(resource: Resource, tenant: Tenant) -> str:
    """Folder of the model packages of a TrainingRun in the object store."""
    return below(tenant, f"models/{resource.namespace}/{resource.uid}")


def workspace(run_name: str, tenant: Tenant) -> str:
    """Folder of checkpoints."""
    return below(tenant, f"workspaces/{run_name}")


class TrainingRunReconciler:
    """See driver.Reconciler."""

    kind = kinds.TRAINING_RUN
    conditions = training_run.CONDITIONS

    async def gather(self, resource: Resource, spec: TrainingRunSpec, world: World) -> training_run.Observed:
        """Look at the Dataset, the tracked run, the pipeline run with its report, and the registered version."""
        tracked, tracking_outage = await _tracked(resource, world)
        tenant = await tenant_of(resource, world, recorded=_recorded_prefix(tracked))
        dataset = _dataset(resource, spec, world)
        frozen = _frozen(resource, tracked)
        name, run, report = "", None, Report()
        keyed = frozen or (Frozen(training_run.inputs(spec), dataset.candidate) if dataset.candidate else None)
        if keyed is not None:
            name = training_run.name_run(resource.uid, keyed)
            run = await world.pipelines.find(name)
        if run is not None:
            report = await read_report(world, name, tenant)
        found = await _registered(resource, spec, world) if report.result else _Registered()
        return training_run.Observed(
            spec=spec,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            retry_key=await _retry_key(resource, spec, tenant, world),
            dataset=dataset,
            frozen=frozen,
            tracked=tracked,
            tracking_outage=tracking_outage,
            tracking_uri=world.tracking.uri,
            run=run,
            report=report,
            version=found.version,
            registry_outage=found.outage,
            model_owner=found.owner,
            paths=_paths(resource, name, tenant, world) if name else {},
            now=world.clock.now(),
            published=resource.status.get("model") or {},
            tenant=tenant,
        )

    def decide(self, seen: training_run.Observed) -> Decision:
        """See decisions.training_run."""
        return training_run.decide(seen)

    async def clean_up(self, resource: Resource, world: World) -> None:
        """End the run everywhere; remove packages, registered version and tracked run when told to."""
        recorded = None
        if "storagePrefix" not in resource.status:
            recorded = _recorded_prefix(await world.tracking.find_run(resource.uid))
        tenant = await tenant_of(resource, world, recorded=recorded)
        for run in await world.pipelines.find_owned(resource.uid):
            await world.pipelines.cancel(run.name)
            await world.objects.delete(report_folder(run.name, tenant))
            await world.objects.delete(workspace(run.name, tenant))
            await world.pipelines.delete(run.name)  # Last: without its record nobody knows what else to remove.
        tracked = await world.tracking.find_run(resource.uid)
        delete = resource.spec.get("deletionPolicy") == "Delete"
        if tracked is not None and not delete:
            await _end_tracked(tracked, world)
        if delete:
            await self._delete_records(resource, tracked, world)
            await world.objects.delete(store(resource, tenant))

    async def _delete_records(self, resource: Resource, tracked: TrackedRun | None, world: World) -> None:
        register = resource.spec.get("register")
        named = register.get("model") if isinstance(register, dict) else None  # Invalid resources must go, too.
        model = named or (resource.status.get("model") or {}).get("name")
        if isinstance(model, str):
            version = await world.registry.find_by_uid(model, resource.uid)
            if version is not None:
                await world.registry.delete_version(version.model, version.version)
        if tracked is not None:
            await world.tracking.delete_run(tracked.id)


async def _tracked(resource: Resource, world: World) -> tuple[TrackedRun | None, str | None]:
    """A tracking server that is away must not stop a training that goes on."""
    try:
        return await world.tracking.find_run(resource.uid), None
    except (OutageError, RejectedError) as error:
        return None, str(error)


def _recorded_prefix(tracked: TrackedRun | None) -> str | None:
    return tracked.tags.get(training_run.STORAGE_TAG) if tracked is not None else None


async def _end_tracked(tracked: TrackedRun, world: World) -> None:
    if tracked.outcome is Outcome.RUNNING:
        await world.tracking.set_outcome(tracked.id, Outcome.KILLED)


@dataclass(frozen=True)
class _Registered:
    version: ModelVersion | None = None
    outage: str | None = None
    owner: str | None = None


async def _registered(resource: Resource, spec: TrainingRunSpec, world: World) -> _Registered:
    if spec.register_ is None:
        return _Registered()
    try:
        version = await world.registry.find_by_uid(spec.register_.model, resource.uid)
        owner = await world.registry.owner(spec.register_.model) if version is None else None
    except (OutageError, RejectedError) as error:  # Also credentials that have expired: what is done stays done.
        return _Registered(outage=str(error))
    return _Registered(version, owner=owner)


async def _retry_key(resource: Resource, spec: TrainingRunSpec, tenant: Tenant, world: World) -> str:
    """Changes when a person asks for another try, gives it other resources, or replaces the checkpoint that was refused."""
    key = resource.annotations.get(meta.RETRY_ANNOTATION, "") + training_run.resources_key(spec)
    if spec.model.weights is None:
        return key
    try:
        fingerprint = await world.volumes.fingerprint(below(tenant, spec.model.weights.path))
    except RejectedError:  # Decisions and the data plane refuse such a path in words that help.
        return f"{key}/rejected"
    return f"{key}/{fingerprint.digest if fingerprint else 'missing'}"


def _dataset(resource: Resource, spec: TrainingRunSpec, world: World) -> DatasetSeen:
    found = world.cache.get(Key(kinds.DATASET.kind, resource.namespace, spec.dataset_ref.name))
    if found is None or found.deleting:
        return DatasetSeen(exists=False, ready=False, message="", candidate=None)
    ready = reporting.ready_condition(found.status)
    current = ready.get("status") == "True" and found.status.get("observedGeneration") == found.generation
    versions = found.status.get("versions") or []
    candidate = _candidate(spec, found, versions) if current or spec.dataset_ref.version != "latest" else None
    return DatasetSeen(
        exists=True,
        ready=current,
        message=str(ready.get("message", "it has no status yet")),
        candidate=candidate,
        known_versions=tuple(entry["version"] for entry in versions),
    )


def _candidate(spec: TrainingRunSpec, found: Resource, versions: list[Mapping[str, Any]]) -> DatasetVersion | None:
    wanted = spec.dataset_ref.version
    for entry in versions:
        if wanted in ("latest", entry["version"]):
            return DatasetVersion(found.name, entry["version"], entry["uri"], entry["task"])
    return None


def _frozen(resource: Resource, tracked: TrackedRun | None) -> Frozen | None:
    """The inputs as they were first: from status or, when that was lost, from the tracked run."""
    inputs, dataset = resource.status.get("inputs"), resource.status.get("dataset")
    if not (inputs and dataset) and tracked is not None and training_run.INPUTS_TAG in tracked.tags:
        inputs = json.loads(tracked.tags[training_run.INPUTS_TAG])
        dataset = json.loads(tracked.tags[training_run.DATASET_TAG])
    if not (inputs and dataset):
        return None
    return Frozen(inputs, DatasetVersion(dataset["name"], dataset["version"], dataset["uri"], dataset["task"]))


def _paths(resource: Resource, name: str, tenant: Tenant, world: World) -> dict[str, str]:
    return {
        "data_root": data_root(tenant, world),
        "store": world.objects.uri(store(resource, tenant)),
        "report": world.objects.uri(report_folder(name, tenant)),
        "workspace": world.objects.uri(workspace(name, tenant)),
    }
