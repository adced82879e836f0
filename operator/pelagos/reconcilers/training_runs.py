"""Gathers what is known about a TrainingRun, and cleans up after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic

from pelagos.api import kinds, meta
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions import training_run
from pelagos.decisions.reports import Recording, Report
from pelagos.decisions.training_run import identity, observed
from pelagos.decisions.training_run.identity import DatasetVersion, Frozen
from pelagos.decisions.training_run.observed import ObservedDataset
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState
from pelagos.ports.registry import ModelVersion
from pelagos.ports.tenants import Tenant
from pelagos.ports.tracking import Outcome, TrackedRun
from pelagos.reconcilers import records, reporting, sealed_runs
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.steady import steady
from pelagos.reconcilers.storage_paths import (
    below,
    checked,
    data_root,
    is_inside,
    prefixes,
    read_report,
    read_result,
    report_folder,
    storage_seal,
    tenant_of,
)
from pelagos_contract.dataset import SPLITS

_MISSING = "missing"


def store(resource: Resource, tenant: Tenant) -> str:
    """Folder of the model packages of a TrainingRun in the object store."""
    return below(tenant, f"models/{resource.namespace}/{resource.uid}")


def packages(resource: Resource, tenant: Tenant) -> str:
    """Folder of all model packages of the namespace."""
    return below(tenant, f"models/{resource.namespace}")


def workspace(run_name: str, tenant: Tenant) -> str:
    """Folder of checkpoints."""
    return below(tenant, f"workspaces/{run_name}")


class TrainingRunReconciler:
    """See driver.Reconciler."""

    kind = kinds.TRAINING_RUN
    conditions = training_run.CONDITIONS

    async def gather(self, resource: Resource, spec: TrainingRunSpec, dependencies: Dependencies) -> observed.Observed:
        """Look at the Dataset, the tracked run, the pipeline run with its report, and the registered version."""
        dependencies.authority.require()
        tracked, tracking_outage = await _tracked(resource, dependencies)
        tenant = await tenant_of(resource, dependencies, recorded=tracked.storage_prefix if tracked else None)
        dataset = _dataset(resource, spec, dependencies)
        frozen = _frozen(resource, tracked)
        keyed = frozen or _to_freeze(spec, dataset)
        name, run, made = "", None, _Made()
        if keyed is not None:
            name = identity.name_run(resource.uid, keyed)
            run = await dependencies.pipelines.find(name) or Recalled(resource).run(name)
            made = await _look(resource, name, keyed, run, tenant, dependencies)
            if (
                frozen is None and made.record is not None
            ):  # Of a former life of the resource, before an upgrade perhaps.
                keyed = identity.freeze(spec, keyed.dataset, made.record.get("algorithms") or {})
                frozen = keyed if keyed.made_by != keyed.made_by_now else None
            if tracked is None and tracking_outage is None:
                tracked, tracking_outage = await _recorded_run(resource, made.record, keyed, tenant, dependencies)
        run, now = steady(run, dependencies.clock)
        # Also before a run is started: that the model is somebody else's need not be found out by training.
        is_asked = made.report.result or run is None or run.state in FINISHED
        found = await _registered(resource, spec, made.record, dependencies) if is_asked else _Registered()
        weights = await _weights(spec, tenant, dependencies)
        return observed.Observed(
            spec=spec,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            retry_key=_retry_key(resource, spec, weights),
            weights_missing=weights == _MISSING,
            dataset=dataset,
            frozen=frozen,
            tracked=tracked.run if tracked else None,
            tracked_seal=tracked.seal if tracked else "",
            storage_seal=storage_seal(resource, tenant, dependencies),
            record=_recording(resource, keyed, made, tenant, dependencies) if keyed else Recording(),
            recorded_run=str(made.record.get("trackedRun") or "") if made.record is not None else None,
            outside=_outside(resource, keyed.dataset, tenant, dependencies) if keyed else "",
            tracking_outage=tracking_outage,
            tracking_uri=dependencies.tracking.uri,
            run=run,
            report=made.report,
            version=found.version,
            registry_outage=found.outage,
            model_owners=found.owners,
            made_by=Recalled(resource).algorithms,
            paths=_paths(resource, name, tenant, dependencies) if name else {},
            now=now,
            time_of_day=dependencies.clock.now(),
            published=Recalled(resource).trained_model,
            tenant=tenant,
        )

    def decide(self, seen: observed.Observed) -> Decision:
        """See decisions.training_run."""
        return training_run.decide(seen)

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """End the run everywhere; remove packages, registered version and tracked run when told to."""
        tracked = await sealed_runs.find(resource, dependencies)
        tenant = await tenant_of(resource, dependencies, recorded=tracked.storage_prefix if tracked else None)
        for run in await dependencies.pipelines.find_owned(resource.uid):
            await dependencies.pipelines.cancel(run.name)
            await dependencies.objects.delete(report_folder(run.name, tenant))
            await dependencies.objects.delete(workspace(run.name, tenant))
            await dependencies.pipelines.delete(run.name)  # Last: without its record nobody knows what else to remove.
        delete = resource.spec.get("deletionPolicy") == "Delete"
        if tracked is not None and not delete:
            await _end_tracked(tracked.run, dependencies)
        if delete:
            await _delete_all(resource, tracked, tenant, dependencies)


async def _delete_all(
    resource: Resource, tracked: sealed_runs.Found | None, tenant: Tenant, dependencies: Dependencies
) -> None:
    """Remove what the resource made, and what former lives of it made from the same inputs, which it has taken over.

    What others of its name made from other inputs was retained when they were deleted, and is not touched.
    """
    keyed = _frozen(resource, tracked) or _would_freeze(resource, dependencies)
    key = identity.record_key(keyed) if keyed is not None else None
    record = await records.find(resource, key, tenant, dependencies) if key is not None else None
    await _delete_registered(resource, records.lives(record), dependencies)
    stated = (record or {}).get("trackedRun")
    for run_id in {run for run in (tracked.run.id if tracked else None, stated) if run}:
        await dependencies.tracking.delete_run(str(run_id))
    if record is not None:
        await _delete_package(record, resource, tenant, dependencies)
    await dependencies.objects.delete(store(resource, tenant))
    if key is not None:
        await dependencies.objects.delete(records.path(resource, key, tenant))


def _would_freeze(resource: Resource, dependencies: Dependencies) -> Frozen | None:
    """The inputs of a resource that is deleted before it froze any; None when it could not have."""
    try:
        spec = TrainingRunSpec.model_validate(resource.spec)
    except pydantic.ValidationError:
        return None
    return _to_freeze(spec, _dataset(resource, spec, dependencies))


async def _delete_registered(resource: Resource, former: Sequence[str], dependencies: Dependencies) -> None:
    """Delete the versions that the resource, or a former life of it, registered."""
    register = resource.spec.get("register")
    named = register.get("model") if isinstance(register, dict) else None  # Invalid resources must go, too.
    model = named or Recalled(resource).model.get("name")
    if not isinstance(model, str):
        return
    for uid in dict.fromkeys((resource.uid, *former)):
        version = await dependencies.registry.find_by_uid(model, uid, sealed_runs.ownership(dependencies.authority))
        if version is not None:
            await dependencies.registry.delete_version(version.model, version.version)


async def _delete_package(
    record: records.Record, resource: Resource, tenant: Tenant, dependencies: Dependencies
) -> None:
    model = (record.get("result") or {}).get("model") or {}
    if is_inside(model.get("uri"), packages(resource, tenant), dependencies):
        await dependencies.objects.delete(str(dependencies.objects.path(model["uri"])))


@dataclass(frozen=True)
class _Made:
    """What is there already: the outcome for the present inputs; the record, where that had to be asked."""

    report: Report = field(default_factory=Report)
    record: records.Record | None = None


async def _look(
    resource: Resource,
    name: RunName,
    keyed: Frozen,
    run: PipelineRun | None,
    tenant: Tenant,
    dependencies: Dependencies,
) -> _Made:
    """Look at the report of the run; and at the record, where neither run nor report have anything to say."""
    if run is None:
        report = await read_result(dependencies, resource.namespace, name, tenant)
    else:
        report = await read_report(dependencies, resource.namespace, run, tenant)
    report = _checked(report, resource, tenant, dependencies)
    if report != Report() or (run is not None and run.state is not RunState.SUCCEEDED):
        return _Made(report)
    record = await records.find(resource, identity.record_key(keyed), tenant, dependencies)
    result = record.get("result") if record is not None else None
    report = _checked(Report(result=result), resource, tenant, dependencies) if result else Report()
    if report.result is None or not await dependencies.objects.exists(
        f"{_package(report.result, dependencies)}/package.json"
    ):
        return _Made()
    return _Made(report, record)


def _checked(report: Report, resource: Resource, tenant: Tenant, dependencies: Dependencies) -> Report:
    model = report.result.get("model") if report.result else None
    return checked(report, model, packages(resource, tenant), dependencies)


def _package(result: Mapping[str, Any], dependencies: Dependencies) -> str:
    """Folder of the package of a result that was checked."""
    return str(dependencies.objects.path(result["model"]["uri"]))


def _recording(resource: Resource, keyed: Frozen, made: _Made, tenant: Tenant, dependencies: Dependencies) -> Recording:
    key = identity.record_key(keyed)
    where = records.path(resource, key, tenant)
    uri = dependencies.objects.uri(where)
    is_kept = Recalled(resource).record == uri
    if made.record is not None:  # Where a former life put it, and not yet ours.
        is_kept = resource.uid in records.lives(made.record)
    return Recording(where, uri, records.begun(resource, key, made.record), is_kept)


async def _recorded_run(
    resource: Resource, record: records.Record | None, keyed: Frozen, tenant: Tenant, dependencies: Dependencies
) -> tuple[sealed_runs.Found | None, str | None]:
    """The tracked run of a former life of the resource."""
    if record is None or not record.get("trackedRun"):
        return None, None
    run_id, prefix = str(record["trackedRun"]), tenant.storage_prefix
    try:
        return await sealed_runs.find_recorded(resource, run_id, keyed.digest, prefix, dependencies), None
    except (OutageError, RejectedError) as error:
        return None, str(error)


async def _tracked(resource: Resource, dependencies: Dependencies) -> tuple[sealed_runs.Found | None, str | None]:
    """A tracking server that is away must not stop a training that goes on."""
    try:
        return await sealed_runs.find(resource, dependencies), None
    except (OutageError, RejectedError) as error:
        return None, str(error)


async def _end_tracked(tracked: TrackedRun, dependencies: Dependencies) -> None:
    if tracked.outcome is Outcome.RUNNING:
        await dependencies.tracking.set_outcome(tracked.id, Outcome.KILLED)


@dataclass(frozen=True)
class _Registered:
    version: ModelVersion | None = None
    outage: str | None = None
    owners: frozenset[str] = frozenset()


async def _registered(
    resource: Resource, spec: TrainingRunSpec, record: records.Record | None, dependencies: Dependencies
) -> _Registered:
    if spec.register_ is None:
        return _Registered()
    try:
        ownership = sealed_runs.ownership(dependencies.authority)
        version = None
        for uid in dict.fromkeys((resource.uid, *reversed(records.lives(record)))):  # By a former life of the resource.
            version = version or await dependencies.registry.find_by_uid(spec.register_.model, uid, ownership)
        owner = await dependencies.registry.owner(spec.register_.model, ownership) if version is None else None
    except (OutageError, RejectedError) as error:  # Also credentials that have expired: what is done stays done.
        return _Registered(outage=str(error))
    return _Registered(
        version, owners=frozenset({owner} if owner else ()) | _holders(spec.register_.model, dependencies)
    )


def _holders(model: str, dependencies: Dependencies) -> frozenset[str]:
    """Namespaces with a TrainingRun whose status says that it registered in the model: nobody makes that forgotten in MLflow."""
    trainings = (found for found in dependencies.cache.all() if found.kind is kinds.TRAINING_RUN)
    registered = ((found.namespace, found.status.get("model") or {}) for found in trainings)
    return frozenset(namespace for namespace, told in registered if told.get("version") and told.get("name") == model)


async def _weights(spec: TrainingRunSpec, tenant: Tenant, dependencies: Dependencies) -> str | None:
    """What tells a checkpoint from another; None when spec names none."""
    if spec.model.weights is None:
        return None
    try:
        fingerprint = await dependencies.volumes.fingerprint(below(tenant, spec.model.weights.path))
    except RejectedError:  # Decisions and the data plane refuse such a path in words that help.
        return "rejected"
    return fingerprint.digest if fingerprint else _MISSING


def _retry_key(resource: Resource, spec: TrainingRunSpec, weights: str | None) -> str:
    """Changes when a person asks for another try, gives it other resources, or replaces the checkpoint that was refused."""
    key = resource.annotations.get(meta.RETRY_ANNOTATION, "") + identity.resources_key(spec)
    return key if weights is None else f"{key}/{weights}"


def _dataset(resource: Resource, spec: TrainingRunSpec, dependencies: Dependencies) -> ObservedDataset:
    found = dependencies.cache.get(Key(kinds.DATASET.kind, resource.namespace, spec.dataset_ref.name))
    if found is None or found.deleting:
        return ObservedDataset(exists=False, ready=False, message="", candidate=None)
    ready = reporting.ready_condition(found.status)
    current = ready.get("status") == "True" and found.status.get("observedGeneration") == found.generation
    versions = found.status.get("versions") or []
    candidate = _candidate(spec, found, versions) if current or spec.dataset_ref.version != "latest" else None
    return ObservedDataset(
        exists=True,
        ready=current,
        message=str(ready.get("message", "it has no status yet")),
        candidate=candidate,
        known_versions=tuple(entry["version"] for entry in versions),
        empty_splits=_empty_splits(found, candidate),
    )


def _to_freeze(spec: TrainingRunSpec, dataset: ObservedDataset) -> Frozen | None:
    """The inputs as they would be frozen now."""
    return identity.freeze(spec, dataset.candidate) if dataset.candidate is not None else None


def _candidate(spec: TrainingRunSpec, found: Resource, versions: list[Mapping[str, Any]]) -> DatasetVersion | None:
    wanted = spec.dataset_ref.version
    for entry in versions:
        if wanted in ("latest", entry["version"]):
            return DatasetVersion(found.name, entry["version"], entry["uri"], entry["task"])
    return None


def _empty_splits(found: Resource, candidate: DatasetVersion | None) -> tuple[str, ...]:
    """Splits of the candidate without images; the Dataset's status has those of its newest version alone."""
    splits = found.status.get("splits")
    if candidate is None or not splits or found.status.get("version") != candidate.version:
        return ()
    return tuple(name for name in SPLITS if not (splits.get(name) or {}).get("images"))


def _frozen(resource: Resource, tracked: sealed_runs.Found | None) -> Frozen | None:
    """The inputs as they were first: from status or, when that was lost, from the tracked run that is ours."""
    told = Recalled(resource)
    stated = sealed_runs.frozen_of(told.inputs, told.dataset)
    if stated is not None and stated.digest == told.inputs_digest:
        return stated
    return tracked.frozen if tracked else None


def _outside(resource: Resource, dataset: DatasetVersion, tenant: Tenant, dependencies: Dependencies) -> str:
    """Why the version may not be read; empty when it lies in the namespace's own part of the store."""
    earlier = prefixes(resource.namespace, dependencies)
    folders = {below(each, f"datasets/{resource.namespace}") for each in (tenant, *earlier)}
    if any(is_inside(dataset.uri, folder, dependencies) for folder in folders):
        return ""
    where = dependencies.objects.uri(below(tenant, f"datasets/{resource.namespace}"))
    return (
        f"status.dataset.uri: {dataset.uri} of Dataset {dataset.name} is not below {where}, where the dataset versions of this "
        "namespace are. Nothing outside of it is read. Create a new TrainingRun"
    )


def _paths(resource: Resource, name: str, tenant: Tenant, dependencies: Dependencies) -> dict[str, str]:
    return {
        "data_root": data_root(tenant, dependencies),
        "store": dependencies.objects.uri(store(resource, tenant)),
        "report": dependencies.objects.uri(report_folder(name, tenant)),
        "workspace": dependencies.objects.uri(workspace(name, tenant)),
    }
