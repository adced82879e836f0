"""Gathers all observations of a TrainingRun, and cleans up after it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pydantic

from pelagos.api import kinds, meta, reasons
from pelagos.api.training_run import Progress, TrainingRunSpec
from pelagos.decisions import training_run
from pelagos.decisions.reports import Recording, Report
from pelagos.decisions.training_run import champions, identity, observed
from pelagos.decisions.training_run.identity import DatasetVersion, Frozen
from pelagos.decisions.training_run.observed import ObservedDataset
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState
from pelagos.ports.registry import ModelVersion
from pelagos.ports.tracking import Outcome
from pelagos.reconcilers import records, reporting, sealed_runs, turns
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.scope import Scope
from pelagos.reconcilers.steady import steady
from pelagos.reconcilers.storage_paths import (
    DATASETS,
    MODELS,
    checked,
    data_root,
    prefixes,
    read_progress,
    read_report,
    read_result,
    report_folder,
    scope_of,
    storage_seal,
    workspace,
)
from pelagos_contract import identifiers
from pelagos_contract.metadata import InvalidMetadataError, Metadata, of_spec
from pelagos_contract.model_card import folder_of
from pelagos_contract.splits import SPLITS
from pelagos_contract.tags import EVIDENCE_SHA256_TAG, EVIDENCE_URI_TAG, MANIFEST_SHA256_TAG, UID_TAG
from pelagos_contract.training import EVIDENCE_FOLDER

_MISSING = "missing"


class TrainingRunReconciler(turns.AnyTime):
    """Implements driver.Reconciler for TrainingRuns."""

    kind = kinds.TRAINING_RUN
    conditions = training_run.CONDITIONS

    async def gather(self, resource: Resource, spec: TrainingRunSpec, dependencies: Dependencies) -> observed.Observed:
        """Observe the Dataset, the tracked run, the pipeline run with its report, and the registered version."""
        dependencies.authority.require()
        tracked, tracking_outage = await _tracked(resource, dependencies)
        scope = await scope_of(resource, dependencies, recorded=tracked.storage_prefix if tracked else None)
        dataset = _dataset(resource, spec, dependencies)
        frozen = _frozen(resource, tracked)
        keyed = frozen or _to_freeze(spec, dataset)
        name, run, made = "", None, _Made()
        if keyed is not None:
            name = identity.name_run(resource.uid, keyed)
            run = Recalled(resource).known(await dependencies.pipelines.find(name), name)
            made = await _look(scope, name, keyed, run)
            if (
                frozen is None and made.record is not None
            ):  # A former life of the resource made it, perhaps with the algorithms of an earlier release.
                keyed = identity.freeze(spec, keyed.dataset, made.record.get("algorithms") or {})
                frozen = keyed if keyed.made_by != keyed.made_by_now else None
            if tracked is None and tracking_outage is None:
                tracked, tracking_outage = await _recorded_run(scope, made.record, keyed)
        run, now = steady(run, dependencies.clock)
        # Also before a run starts: that the model belongs to another namespace should show before hours of training, not after.
        is_asked = made.report.result or run is None or run.state in FINISHED
        found = await _registered(scope, spec, made.record) if is_asked else _Registered()
        weights = await _weights(scope, spec)
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
            storage_seal=storage_seal(scope),
            record=_recording(scope, keyed, made) if keyed else Recording(),
            recorded_run=str(made.record.get("trackedRun") or "") if made.record is not None else None,
            outside=_outside(scope, keyed.dataset) if keyed else "",
            tracking_outage=tracking_outage,
            tracking_uri=dependencies.tracking.uri,
            run=run,
            report=made.report,
            version=found.version,
            registry_outage=found.outage,
            model_owners=found.owners,
            champions=found.champions,
            made_by=Recalled(resource).algorithms,
            paths=_paths(scope, name) if name else {},
            now=now,
            time_of_day=dependencies.clock.now(),
            told=await read_progress(scope, run),
            stated=Recalled(resource).progress(Progress),
            stated_seeds=Recalled(resource).seeds,
            stated_search=Recalled(resource).search,
            stated_left_out=Recalled(resource).leave_one_out,
            served_by=_served_by(resource, spec, dependencies),
            published=Recalled(resource).trained_model,
            tenant=scope.tenant,
        )

    def decide(self, seen: observed.Observed) -> Decision:
        """See decisions.training_run."""
        return training_run.decide(seen)

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """End all runs. Remove packages, registered versions and tracked runs when deletionPolicy is Delete."""
        tracked = await sealed_runs.find(resource, dependencies)
        scope = await scope_of(resource, dependencies, recorded=tracked.storage_prefix if tracked else None)
        for run in await dependencies.pipelines.find_owned(resource.uid):
            await dependencies.pipelines.cancel(run.name)
            await dependencies.objects.delete(report_folder(run.name, scope.tenant))
            await dependencies.objects.delete(workspace(run.name, scope.tenant))
            await dependencies.pipelines.delete(run.name)  # Last: by this record, another try finds the rest.
        if resource.spec.get("deletionPolicy") == "Delete":
            await _delete_all(scope, tracked)
        elif tracked is not None and tracked.run.outcome is Outcome.RUNNING:
            await dependencies.tracking.set_outcome(tracked.run.id, Outcome.KILLED)


async def _delete_all(scope: Scope, tracked: sealed_runs.Found | None) -> None:
    """Remove the results that the resource made, and those that it took over: results of its former lives from the same inputs.

    What earlier resources of its name made from other inputs was retained when they were deleted, and is not touched.
    """
    resource, dependencies = scope.resource, scope.dependencies
    keyed = _frozen(resource, tracked)
    if keyed is None:
        # No inputs are frozen, or they were lost: those that spec would freeze now. From an invalid spec, nothing was made.
        with contextlib.suppress(pydantic.ValidationError):
            spec = TrainingRunSpec.model_validate(resource.spec)
            keyed = _to_freeze(spec, _dataset(resource, spec, dependencies))
    key = identity.record_key(keyed) if keyed is not None else None
    record = await records.find(scope, key) if key is not None else None
    await _delete_registered(scope, records.lives(record))
    stated = (record or {}).get("trackedRun")
    for run_id in {run for run in (tracked.run.id if tracked else None, stated) if run}:
        await dependencies.tracking.delete_run(str(run_id))
    package = (((record or {}).get("result") or {}).get("model") or {}).get("uri", "")
    if scope.is_inside(package, scope.namespace_folder(MODELS)):
        await dependencies.objects.delete(scope.path(package))
        await dependencies.objects.delete(scope.path(folder_of(package)))
    await dependencies.objects.delete(scope.own_folder(MODELS))
    if key is not None:
        await dependencies.objects.delete(records.path(scope, key))


async def _delete_registered(scope: Scope, former: Sequence[str]) -> None:
    """Delete the model versions that the resource, or a former life of it, registered."""
    resource, dependencies = scope.resource, scope.dependencies
    register = resource.spec.get("register")
    named = register.get("model") if isinstance(register, dict) else None  # Invalid resources must be deletable, too.
    model = named or Recalled(resource).model.get("name")
    if not isinstance(model, str):
        return
    for uid in dict.fromkeys((resource.uid, *former)):
        version = await dependencies.registry.find_by_uid(model, uid, sealed_runs.ownership(dependencies.authority))
        if version is not None:
            await dependencies.registry.delete_version(version.model, version.version)


@dataclass(frozen=True)
class _Made:
    """What exists already: the outcome for the present inputs, and its record, if that had to be read."""

    report: Report = field(default_factory=Report)
    record: records.Record | None = None


async def _look(scope: Scope, name: RunName, keyed: Frozen, run: PipelineRun | None) -> _Made:
    """Read the run's report. Without one, read the record, unless the run is in progress or has failed."""
    report = _checked(scope, await (read_result(scope, name) if run is None else read_report(scope, run)))
    if report != Report() or (run is not None and run.state is not RunState.SUCCEEDED):
        return _Made(report)
    record = await records.find(scope, identity.record_key(keyed))
    result = record.get("result") if record is not None else None
    report = _checked(scope, Report(result=result)) if result else Report()
    if report.result is None:
        return _Made()
    # A record may outlive the package that it names. It must not count then, or the model would never be trained again.
    package = scope.path(report.result["model"]["uri"])
    return _Made(report, record) if await scope.dependencies.objects.exists(f"{package}/package.json") else _Made()


def _checked(scope: Scope, report: Report) -> Report:
    folder = scope.namespace_folder(MODELS)
    report = checked(scope, report, report.result.get("model") if report.result else None, folder)
    # The evidence has to be inside too: later trainings read it from where the registered version says it is.
    return checked(scope, report, report.result.get("evidence") if report.result else None, folder)


def _recording(scope: Scope, keyed: Frozen, made: _Made) -> Recording:
    key = identity.record_key(keyed)
    where = records.path(scope, key)
    uri = scope.dependencies.objects.uri(where)
    is_kept = Recalled(scope.resource).record == uri
    if made.record is not None:  # It may be a former life's, and has to be written again with the uid of this one.
        is_kept = scope.resource.uid in records.lives(made.record)
    return Recording(where, uri, records.begun(scope, key, made.record), is_kept)


async def _recorded_run(
    scope: Scope, record: records.Record | None, keyed: Frozen
) -> tuple[sealed_runs.Found | None, str | None]:
    """The tracked run of a former life of the resource, and why it is unknown if MLflow did not answer."""
    if record is None or not record.get("trackedRun"):
        return None, None
    try:
        return await sealed_runs.find_recorded(scope, str(record["trackedRun"]), keyed.digest), None
    except (OutageError, RejectedError) as error:
        return None, str(error)


async def _tracked(resource: Resource, dependencies: Dependencies) -> tuple[sealed_runs.Found | None, str | None]:
    """The tracked run, and why it is unknown if MLflow did not answer: its outage must not stop a training that runs."""
    try:
        return await sealed_runs.find(resource, dependencies), None
    except (OutageError, RejectedError) as error:
        return None, str(error)


@dataclass(frozen=True)
class _Registered:
    version: ModelVersion | None = None
    outage: str | None = None
    owners: frozenset[str] = frozenset()
    champions: Mapping[str, observed.Champion | None] = field(default_factory=dict)


async def _registered(scope: Scope, spec: TrainingRunSpec, record: records.Record | None) -> _Registered:
    try:
        found = await _own_version(scope, spec, record)
        asked = champions.references(spec)
        # A model that is registered already keeps the result of its comparison at that time.
        if found.version is None and asked:
            of, lives = spec.dataset_ref.name, records.lives(record)
            compared = {name: await _champion(scope, each, of, lives) for name, each in asked.items()}
            found = replace(found, champions=compared)
    except (OutageError, RejectedError) as error:  # Also expired credentials: they must not undo earlier results.
        return _Registered(outage=str(error))
    return found


async def _own_version(scope: Scope, spec: TrainingRunSpec, record: records.Record | None) -> _Registered:
    if spec.register_ is None:
        return _Registered()
    registry, model, version = scope.dependencies.registry, spec.register_.model, None
    ownership = sealed_runs.ownership(scope.dependencies.authority)
    # Registered by this resource or, in a rebuilt cluster, by a former life of it, most recent first.
    for uid in dict.fromkeys((scope.resource.uid, *reversed(records.lives(record)))):
        version = version or await registry.find_by_uid(model, uid, ownership)
    owner = await registry.owner(model, ownership) if version is None else None
    return _Registered(version, owners=frozenset({owner} if owner else ()) | _holders(model, scope.dependencies))


async def _champion(
    scope: Scope, asked: champions.Reference, dataset: str, former: Sequence[str]
) -> observed.Champion | None:
    registry, model = scope.dependencies.registry, asked.model
    if asked.version is not None:
        found = await registry.find_by_version(model, asked.version)
    else:
        found = await registry.find_by_alias(model, asked.alias or "")
    if found is None:
        return None
    owner = sealed_runs.ownership(scope.dependencies.authority)(found)
    uri, sha256 = (found.tags.get(name, "") for name in (EVIDENCE_URI_TAG, EVIDENCE_SHA256_TAG))
    who, doubt, objects, package = f"version {found.version} of {model!r}", "", scope.dependencies.objects, None
    evaluated = f"run pelagos evaluate {model}/{found.version} --dataset {dataset}, and set evidence to what it prints"
    if asked.evidence is not None:
        # The gate states a digest and no path, so that it can only name files in the namespace's own folder of evidence.
        path = f"{scope.namespace_folder(MODELS)}/{EVIDENCE_FOLDER}/{asked.evidence}.npz"
        uri, sha256, package = objects.uri(path), f"sha256:{asked.evidence}", found.tags.get(MANIFEST_SHA256_TAG, "")
    if owner not in {scope.resource.namespace, *scope.tenant.shared_with}:
        doubt = f"{who} was not registered by a TrainingRun of this namespace, nor of one that shares its models"
    elif asked.evidence is not None and not await objects.exists(path):
        doubt = f"there is no evidence {asked.evidence[:12]}… at {uri}; {evaluated}"
    elif not uri or not sha256:
        doubt = f"no results of {who} for each image of the test split were kept; {evaluated}"
    if doubt:
        doubt = (
            f"{doubt}, or train it on this version of the Dataset, and register it, before anything is compared with it"
        )
    is_own = owner is not None and found.tags.get(UID_TAG) in {scope.resource.uid, *former}
    return observed.Champion(found.version, is_own, uri, sha256, package, doubt)


def _holders(name: str, dependencies: Dependencies) -> frozenset[str]:
    """Namespaces with a TrainingRun that registered a model of this name, by its status: valid even if MLflow was altered."""
    trainings = (found for found in dependencies.cache.all() if found.kind is kinds.TRAINING_RUN)
    registered = ((found.namespace, found.status.get("model") or {}) for found in trainings)
    return frozenset(namespace for namespace, model in registered if model.get("version") and model.get("name") == name)


def _served_by(resource: Resource, spec: TrainingRunSpec, dependencies: Dependencies) -> frozenset[str]:
    """ModelServices of any namespace that refer to the TrainingRun, or serve its package by a registered model or a uri."""
    if spec.ttl_seconds_after_finished is None:
        return frozenset()  # Needed for the TTL only, and the search goes through all resources.
    uri = Recalled(resource).model.get("uri")
    serving = (found for found in dependencies.cache.all() if found.kind is kinds.MODEL_SERVICE and not found.deleting)
    referring = dependencies.cache.dependents(resource.key)
    return frozenset(
        f"{found.namespace}/{found.name}"
        for found in serving
        if found.key in referring or (uri is not None and (found.status.get("model") or {}).get("uri") == uri)
    )


async def _weights(scope: Scope, spec: TrainingRunSpec) -> str | None:
    """The fingerprint of the checkpoint. None when spec names none, or one outside the data volume, which it pins by digest."""
    path = spec.model.weights.on_volume if spec.model.weights is not None else None
    if path is None:
        return None
    try:
        fingerprint = await scope.dependencies.volumes.fingerprint(scope.tenant.below(path))
    except RejectedError:  # Decisions and the data plane refuse such a path, with a message that helps.
        return "rejected"
    return fingerprint.digest if fingerprint else _MISSING


def _retry_key(resource: Resource, spec: TrainingRunSpec, weights: str | None) -> str:
    """A key that changes when a person asks for a retry, changes the training's resources, or replaces the checkpoint."""
    key = resource.annotations.get(meta.RETRY_ANNOTATION, "") + identity.resources_key(spec)
    return key if weights is None else f"{key}/{weights}"


def _dataset(resource: Resource, spec: TrainingRunSpec, dependencies: Dependencies) -> ObservedDataset:
    found = dependencies.cache.get(Key(kinds.DATASET.kind, resource.namespace, spec.dataset_ref.name))
    if found is None or found.deleting:
        return ObservedDataset(exists=False, ready=False, message="", candidate=None)
    ready = reporting.ready_condition(found.status)
    is_of_now = found.status.get("observedGeneration") == found.generation
    current = ready.get("status") == "True" and is_of_now
    # The newest version exists and did not pass: a TrainingRun that wants it reports that instead of waiting for another one.
    refused = ready.get("reason") == reasons.QUALITY_FAILED and is_of_now
    versions = found.status.get("versions") or []
    wanted, candidate, blocked = spec.dataset_ref.version, None, ""
    if current or refused or wanted != "latest":
        # Versions are listed newest first.
        entry = next((entry for entry in versions if wanted in ("latest", entry["version"])), None)
        candidate = DatasetVersion(found.name, entry["version"], entry["uri"], entry["task"]) if entry else None
        blocked = str(
            (entry or {}).get("blocked") or (ready.get("message") if refused and wanted == "latest" else "") or ""
        )
    return ObservedDataset(
        exists=True,
        ready=current,
        message=str(ready.get("message", "it has no status yet")),
        candidate=candidate,
        known_versions=tuple(entry["version"] for entry in versions),
        empty_splits=_empty_splits(found, candidate),
        classes=_classes(found, candidate),
        captured=_captured(found, candidate),
        blocked=blocked,
        metadata=_metadata(found),
        dois={entry["version"]: entry["doi"] for entry in versions if _is_doi(entry.get("doi"))},
    )


def _is_doi(stated: object) -> bool:
    """Whether a stated DOI has the form of one. It comes from a repository, so it is not trusted."""
    return isinstance(stated, str) and identifiers.kind_of(stated) == "DOI"


def _metadata(found: Resource) -> Metadata | None:
    """The Dataset's metadata. None if invalid, as an earlier release may have admitted it: the Dataset itself reports that."""
    try:
        return of_spec(found.spec) if found.spec.get("metadata") else None
    except InvalidMetadataError:
        return None


def _to_freeze(spec: TrainingRunSpec, dataset: ObservedDataset) -> Frozen | None:
    """The inputs as they would be frozen now; None without a version to train on."""
    return identity.freeze(spec, dataset.candidate) if dataset.candidate is not None else None


def _empty_splits(found: Resource, candidate: DatasetVersion | None) -> tuple[str, ...]:
    """Splits of the candidate that have no images. Empty unless it is the newest version: the Dataset's status has only that."""
    splits = found.status.get("splits")
    if candidate is None or not splits or found.status.get("version") != candidate.version:
        return ()
    return tuple(name for name in SPLITS if not (splits.get(name) or {}).get("images"))


def _classes(found: Resource, candidate: DatasetVersion | None) -> tuple[str, ...] | None:
    """Names of the candidate's classes. None unless it is the newest version, and the Dataset's status lists all of them."""
    classes, cut = found.status.get("classes"), found.status.get("truncated") or ()
    if candidate is None or not classes or found.status.get("version") != candidate.version:
        return None
    return None if any(each["field"] == "classes" for each in cut) else tuple(each["name"] for each in classes)


def _captured(found: Resource, candidate: DatasetVersion | None) -> tuple[str, ...] | None:
    """Capture fields that are known of the candidate's images. None unless the Dataset's status is about that version."""
    capture = found.status.get("capture")
    if candidate is None or not capture or found.status.get("version") != candidate.version:
        return None
    return tuple(each["field"] for each in capture.get("fields") or () if each.get("known"))


def _frozen(resource: Resource, tracked: sealed_runs.Found | None) -> Frozen | None:
    """The inputs as frozen at first: from status or, when that was lost, from our tracked run."""
    recalled = Recalled(resource)
    stated = sealed_runs.frozen_of(recalled.inputs, recalled.dataset)
    if stated is not None and stated.digest == recalled.inputs_digest:
        return stated
    return tracked.frozen if tracked else None


def _outside(scope: Scope, dataset: DatasetVersion) -> str:
    """Why the version may not be read; empty when it is in the namespace's own part of the store."""
    namespace = scope.resource.namespace
    earlier = prefixes(namespace, scope.dependencies)
    folders = [tenant.below(f"{DATASETS}/{namespace}") for tenant in (scope.tenant, *earlier)]
    if any(scope.is_inside(dataset.uri, folder) for folder in folders):
        return ""
    where = scope.dependencies.objects.uri(folders[0])
    return (
        f"status.dataset.uri: {dataset.uri} of Dataset {dataset.name} is not below {where}, where the dataset versions of this "
        "namespace are. Nothing outside of it is read. Create a new TrainingRun"
    )


def _paths(scope: Scope, name: str) -> dict[str, str]:
    objects = scope.dependencies.objects
    return {
        "data_root": data_root(scope),
        "store": objects.uri(scope.own_folder(MODELS)),
        "report": objects.uri(report_folder(name, scope.tenant)),
        "workspace": objects.uri(workspace(name, scope.tenant)),
    }
