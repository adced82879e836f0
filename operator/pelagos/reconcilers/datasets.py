"""Gathers all observations of a Dataset, and cleans up after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pelagos.api import kinds, meta
from pelagos.api.dataset import DatasetSpec, DatasetVersion, MadeFrom, Progress
from pelagos.decisions import dataset, digests
from pelagos.decisions.dataset import identity, observed, publication, removal
from pelagos.decisions.reports import Recording, Report
from pelagos.decisions.verdicts import Decision
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState
from pelagos.ports.volumes import Fingerprint
from pelagos.reconcilers import publications, records, turns, version_users
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.scope import Scope
from pelagos.reconcilers.steady import steady
from pelagos.reconcilers.storage_paths import (
    DATASETS,
    checked,
    data_root,
    read_progress,
    read_report,
    read_result,
    report_folder,
    scope_of,
    storage_seal,
)


@dataclass(frozen=True)
class _Made:
    """What exists already: the outcome for the present inputs, the versions until now, and the folder that holds them.

    ``newest`` is the record that was kept last, if it had to be read. ``is_gone``: the outcome was a version that was removed
    since, so that ``report`` is empty.
    """

    report: Report = field(default_factory=Report)
    history: tuple[Mapping[str, Any], ...] = ()
    store: str = ""
    newest: records.Record | None = None
    is_gone: bool = False


class DatasetReconciler(turns.AnyTime):
    """Implements driver.Reconciler for Datasets."""

    kind = kinds.DATASET
    conditions = dataset.CONDITIONS

    async def gather(self, resource: Resource, spec: DatasetSpec, dependencies: Dependencies) -> observed.Observed:
        """Observe the source, the run for its present content, and the run's report."""
        dependencies.authority.require()
        scope = await scope_of(resource, dependencies)
        fingerprint, source_error = None, None
        try:
            fingerprint = await _fingerprint(spec, scope)
        except RejectedError as error:
            if error.reason.state == "waiting":
                raise
            source_error = f"{spec.source.field}: {error}"
        run, name, digest, made, inputs = None, "", "", _Made(), None
        earlier = await _earlier(scope)
        if fingerprint is not None:
            inputs = identity.keyed(spec, fingerprint, resource.generation, earlier)
            digest = inputs.digest
            name = identity.name_run(resource.uid, digest)
            run = Recalled(resource).known(await dependencies.pipelines.find(name), name)
            made = await _look(scope, name, digest, run)
        run, now = steady(run, dependencies.clock)
        removals = Recalled(resource).removals
        removal_name = removal.name_run(resource.uid, removals)
        removal_run = await dependencies.pipelines.find(removal_name) if removal_name else None
        publishing = await publications.look(scope, spec)
        objects = dependencies.objects
        return observed.Observed(
            spec=spec,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            retry=resource.annotations.get(meta.RETRY_ANNOTATION, ""),
            fingerprint=fingerprint,
            source_error=source_error,
            run=run,
            report=made.report,
            superseded=await _superseded(scope, {name, removal_name, publication.name_run(resource.uid)}, digest),
            history=tuple(DatasetVersion.model_validate(entry, extra="ignore") for entry in made.history),
            data_root=data_root(scope),
            store=objects.uri(made.store or scope.own_folder(DATASETS)),
            report_folder=objects.uri(report_folder(name, scope.tenant)) if name else "",
            removals=removals,
            removal_run=removal_run,
            removal_report=await read_report(scope, removal_run) if removal_run else Report(),
            removal_folder=objects.uri(report_folder(removal_name, scope.tenant)) if removal_name else "",
            publishing=publishing,
            users=version_users.of(resource, made.report.result, spec, dependencies.cache),
            is_gone=made.is_gone,
            now=now,
            generation=resource.generation,
            earlier=earlier,
            keyed=inputs,
            time_of_day=dependencies.clock.now(),
            told=await read_progress(scope, run),
            stated=Recalled(resource).progress(Progress),
            tenant=scope.tenant,
            storage_seal=storage_seal(scope),
            metadata_digest=Recalled(resource).metadata_digest,
            record=_recording(scope, digest, run, made) if digest else Recording(),
        )

    def decide(self, seen: observed.Observed) -> Decision:
        """See decisions.dataset."""
        return dataset.decide(seen)

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """End all runs; remove versions when deletionPolicy is Delete."""
        scope = await scope_of(resource, dependencies)
        deletes = resource.spec.get("deletionPolicy") == "Delete"
        discards = publication.name_discard(resource.uid)
        owners = publications.owners(scope, await records.newest(scope)) if resource.spec.get("publish") else ()
        for run in await dependencies.pipelines.find_owned(resource.uid):
            if run.name == discards and deletes:
                continue
            await dependencies.pipelines.cancel(run.name)
            await dependencies.objects.delete(report_folder(run.name, scope.tenant))
            await dependencies.pipelines.delete(run.name)  # Last: by this record, another try finds the rest.
        if deletes:
            newest = await records.newest(scope)
            if newest is not None and scope.is_inside(newest.get("store"), scope.namespace_folder(DATASETS)):
                await dependencies.objects.delete(scope.path(newest["store"]))
            await dependencies.objects.delete(scope.own_folder(DATASETS))
            await dependencies.objects.delete(records.folder(scope))
            # Last, since it waits for a run, up to publications.LONGEST: everything else is removed before.
            await publications.discard(scope, owners)


async def _fingerprint(spec: DatasetSpec, scope: Scope) -> Fingerprint | None:
    """The fingerprint of the source's content. A source outside the data volume is pinned by spec, so spec is its fingerprint.

    None when there is nothing at the source's path.
    """
    if spec.source.path is None:
        return Fingerprint(digests.digest(spec.source.written()), 1)
    return await scope.dependencies.volumes.fingerprint(scope.tenant.below(spec.source.path))


async def _earlier(scope: Scope) -> identity.Earlier | None:
    """The inputs of the last run, from status or, for a resource without one, from the newest record of its name."""
    stated = Recalled(scope.resource).earlier
    newest = await records.newest(scope) if stated is None else None
    if newest is None:
        return stated
    noted = newest.get("madeFrom")
    return identity.Earlier(str(newest.get("key")), MadeFrom.model_validate(noted) if noted else None)


async def _superseded(scope: Scope, names: Collection[str | None], digest: str) -> tuple[PipelineRun, ...]:
    """Unfinished runs for earlier content or an earlier recipe. Listed only when either has changed since the last pass."""
    if Recalled(scope.resource).inputs_digest in (None, digest):
        return ()
    owned = await scope.dependencies.pipelines.find_owned(scope.resource.uid)
    return tuple(run for run in owned if run.name not in names and run.state not in FINISHED)


async def _look(scope: Scope, name: RunName, digest: str, run: PipelineRun | None) -> _Made:
    """Read the run's report, and the records where the run or status has nothing about earlier results."""
    recalled, versions = Recalled(scope.resource), scope.namespace_folder(DATASETS)
    report = await (read_result(scope, name) if run is None else read_report(scope, run))
    report = checked(scope, report, report.result, versions)
    if run is None or (report == Report() and run.state is RunState.SUCCEEDED):
        report = await _recorded(scope, digest, report)
    is_gone = report.result is not None and await _is_gone(scope, report.result)
    report = Report() if is_gone else report
    stated, history, newest = recalled.store, recalled.versions, None
    if not history and (report.result or not scope.is_inside(stated, versions)):
        # A new resource, or one that has lost its status: the record knows the versions of earlier ones of its name, and where.
        newest = await records.newest(scope)
        history = await _still_there(scope, newest["versions"]) if newest is not None else ()
    result = str(report.result["uri"]).partition("/versions/")[0] if report.result else None
    places = [stated, result, newest.get("store") if newest is not None else None]
    inside = [scope.path(str(place)) for place in places if scope.is_inside(place, versions)]
    return _Made(report, history, inside[0] if inside else "", newest, is_gone)


async def _is_gone(scope: Scope, result: Mapping[str, Any]) -> bool:
    """Whether the version that a result describes was removed since. Never true of the version that status names."""
    if result["version"] == Recalled(scope.resource).version:
        return False
    return not await scope.dependencies.objects.exists(f"{scope.path(result['uri'])}/manifest.json")


async def _still_there(scope: Scope, versions: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The versions on record that still exist, in the namespace's own part of the store."""
    folder, objects = scope.namespace_folder(DATASETS), scope.dependencies.objects
    return tuple(
        [
            each
            for each in versions
            if scope.is_inside(each.get("uri"), folder)
            and await objects.exists(f"{scope.path(each['uri'])}/manifest.json")
        ]
    )


async def _recorded(scope: Scope, digest: str, report: Report) -> Report:
    """The report, with the retry key that the same result has on record.

    Without a report, the result on record, if its version exists in the namespace's own part of the store.
    """
    record = await records.find(scope, digest)
    result = record.get("result") if record is not None else None
    if record is None or not result:
        return report
    if report == Report() and scope.is_inside(result.get("uri"), scope.namespace_folder(DATASETS)):
        is_there = await scope.dependencies.objects.exists(scope.path(result["uri"]))
        report = Report(result=result) if is_there else report
    return replace(report, retry_key=record.get("retryKey")) if report.result == result else report


def _recording(scope: Scope, digest: str, run: PipelineRun | None, made: _Made) -> Recording:
    """Where the result goes on record, and whether it is there already: by status, or by the record itself if it was read."""
    where, recalled, result = records.path(scope, digest), Recalled(scope.resource), made.report.result
    uri = scope.dependencies.objects.uri(where)
    retry_key = made.report.retry_key if run is None else run.retry_key
    same = run is None or recalled.retry_key == retry_key
    stated = recalled.record == uri and result is not None and recalled.version == result.get("version")
    newest = made.newest or {}
    is_found = (newest.get("key"), newest.get("result"), newest.get("retryKey")) == (digest, result, retry_key)
    of = records.begun(scope, digest, made.newest)
    return Recording(where, uri, of, (stated and same) or is_found, records.newest_path(scope))
