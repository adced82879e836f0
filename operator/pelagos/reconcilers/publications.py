"""Observes the publication of a Dataset's versions, and has its draft discarded when the Dataset is deleted."""

from __future__ import annotations

import logging
from datetime import timedelta

from pelagos.api import reasons
from pelagos.api.dataset import DatasetSpec, Publication
from pelagos.decisions.dataset import publication
from pelagos.decisions.dataset.observed import Publishing
from pelagos.decisions.dataset.publication import Whose
from pelagos.ports.errors import ForbiddenError, RejectedError, UnfinishedError
from pelagos.ports.pipelines import FINISHED, RunState
from pelagos.reconcilers import records
from pelagos.reconcilers.recalled import Recalled
from pelagos.reconcilers.scope import Scope
from pelagos.reconcilers.steady import steady
from pelagos.reconcilers.storage_paths import DATASETS, data_root, read_report, read_result, report_folder
from pelagos_contract.publication import PUBLISHED

logger = logging.getLogger("pelagos.reconcile")

LONGEST = timedelta(minutes=15)
"""How long after its deletion a Dataset waits for its draft to be discarded."""


async def look(scope: Scope, spec: DatasetSpec) -> Publishing:
    """The publishing run, its report, and the publication as last known."""
    resource, dependencies = scope.resource, scope.dependencies
    recalled = Recalled(resource)
    known = recalled.publication
    if spec.publish is None and (known is None or known.run is None):
        return Publishing(known=known)
    newest = await records.newest(scope) if spec.publish is not None else None
    known = known or _recorded(newest)
    name = publication.name_run(resource.uid)
    run = await dependencies.pipelines.find(name)
    report = await (read_result(scope, name) if run is None else read_report(scope, run))
    run, now = steady(run, dependencies.clock)
    folder = dependencies.objects.uri(report_folder(name, scope.tenant))
    return Publishing(run, report, folder, known, owners(scope, newest), now)


async def discard(scope: Scope, uids: tuple[str, ...]) -> None:
    """Have the unpublished draft of a deleted Dataset discarded, by a run, since only steps get the repository's token.

    A draft that cannot be discarded is left behind with a Warning event: it must not block the deletion. Raises UnfinishedError
    until the run has finished.
    """
    resource, pipelines = scope.resource, scope.dependencies.pipelines
    known = Recalled(resource).publication
    name = publication.name_discard(resource.uid)
    run = await pipelines.find(name)
    if run is None:
        spec = _publishes(scope)
        if spec is None or known is None or known.state == PUBLISHED:
            return
        objects = scope.dependencies.objects
        store, folder = scope.own_folder(DATASETS), report_folder(name, scope.tenant)
        whose = Whose(
            spec, resource.namespace, resource.name, resource.uid, scope.tenant, data_root(scope), objects.uri(store)
        )
        try:
            await pipelines.submit(publication.discard_request(whose, uids, objects.uri(folder)))
        except (RejectedError, ForbiddenError) as error:
            await _tell(scope, known, str(error))
            return
    if (run is None or run.state not in FINISHED) and not _is_late(scope):
        raise UnfinishedError("pipelines", "the draft of its publication is being discarded")
    if run is None or run.state is not RunState.SUCCEEDED:
        await _tell(scope, known, run.message if run is not None and run.message else "its run did not succeed")
    await pipelines.cancel(name)
    await scope.dependencies.objects.delete(report_folder(name, scope.tenant))
    await pipelines.delete(name)


def owners(scope: Scope, newest: records.Record | None) -> tuple[str, ...]:
    """The uids that drafts of this Dataset may carry, from its record. Read them before a deletion removes the record."""
    return tuple(records.begun(scope, "", newest)["lives"])


def _publishes(scope: Scope) -> DatasetSpec | None:
    """The spec of a Dataset that publishes. None if it does not, or if the spec, of an earlier release perhaps, is invalid."""
    try:
        spec = DatasetSpec.model_validate(scope.resource.spec)
    except ValueError:
        return None
    return spec if spec.publish is not None else None


def _is_late(scope: Scope) -> bool:
    resource, clock = scope.resource, scope.dependencies.clock
    return resource.deleted_at is not None and clock.age((resource.uid, "deleted"), resource.deleted_at) >= LONGEST


async def _tell(scope: Scope, known: Publication | None, why: str) -> None:
    where = known.url if known is not None and known.url else "its repository"
    message = f"the draft of its publication was left where it is ({where}), because it could not be discarded: {why}"
    about = {"kind": scope.resource.kind.kind, "namespace": scope.resource.namespace, "resource": scope.resource.name}
    logger.warning("CleanUpAbandoned: %s", message, extra=about)
    await scope.dependencies.cluster.post_event(
        scope.resource, severity="Warning", reason=reasons.CLEAN_UP_ABANDONED, message=message[:1000]
    )


def _recorded(newest: records.Record | None) -> Publication | None:
    found = newest.get("publication") if newest is not None else None
    return Publication.model_validate(found, extra="ignore") if isinstance(found, dict) else None
