"""Things outside Kubernetes that belong to no resource: finds them, says which may be removed, and removes them on request.

Called by ``pelagos orphans``. Things are left behind when a deletion was forced, a finalizer was removed by hand, or a cluster
was lost. Others are kept on purpose by ``deletionPolicy: Retain``; once the resource is deleted, the two cannot be distinguished.
What cannot be determined counts as needed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from pelagos.api import kinds
from pelagos.ports.owned import Owned, uid_in
from pelagos.ports.pipelines import RunName
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers import sealed_runs
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.storage_paths import DATASETS, MODELS, report_folder, workspace
from pelagos_contract.tags import UID_TAG

YOUNGEST = timedelta(hours=1)
"""Anything younger is left alone: it may belong to a resource that is just being created."""
RECORDS = "records"
"""Folder of sealed records of results: <namespace>/<plural>/<name>. See reconcilers.records."""


class What(Enum):
    """Sorts of things, in the order in which they are removed."""

    RUN = "pipeline run"
    SERVER = "model server"
    REPORT = "report"
    WORKSPACE = "workspace"
    VERSION = "registered version"
    TRACKED = "tracked run"
    MODELS = "model packages"
    DATASETS = "dataset versions"
    RECORD = "record of results"


KEPT = frozenset({What.VERSION, What.TRACKED, What.MODELS, What.DATASETS, What.RECORD})
"""Sorts of things that deletionPolicy Retain keeps."""


class State(Enum):
    """Whether a thing may be removed, and if not, why."""

    ORPHANED = "orphaned"
    RETAINED = "retained"
    USED = "used"
    """An existing resource names it."""
    YOUNG = "young"
    UNKNOWN = "unknown"
    """Its age is not known."""


@dataclass(frozen=True)
class Thing:
    """One thing outside. ``owned`` says which resource it belonged to; ``path`` is its path in the object store, or empty."""

    what: What
    owned: Owned
    state: State = State.ORPHANED
    used_by: str = ""
    path: str = ""

    @property
    def key(self) -> tuple[What, str, str]:
        """Identifies the thing among all others."""
        return self.what, self.owned.name, self.owned.uid


@dataclass(frozen=True)
class Living:
    """The existing resources: their ``uids``, and by name, as ``kind/namespace/name``, the text of each."""

    uids: frozenset[str]
    texts: Mapping[str, str]

    def has(self, owned: Owned, what: What) -> bool:
        """Whether the thing belongs to an existing resource: a record by name, anything else by uid."""
        return self.keeper(owned) != "" if what is What.RECORD else owned.uid in self.uids

    def keeper(self, record: Owned) -> str:
        """The name of the existing resource that a record belongs to; empty when there is none."""
        namespace, plural, name = record.name.removeprefix(f"{RECORDS}/").split("/")
        kind = next((known.kind for known in kinds.KINDS if known.plural == plural), "")
        found = f"{kind}/{namespace}/{name}"
        return found if found in self.texts else ""

    def user(self, owned: Owned) -> str:
        """The name of an existing resource whose text contains the thing's uid; empty when there is none."""
        return next((name for name, text in self.texts.items() if owned.uid and owned.uid in text), "")


@dataclass(frozen=True)
class Scope:
    """Where to look. ``namespace`` limits the search to one namespace; empty means all. ``known`` are all existing namespaces."""

    namespace: str = ""
    known: frozenset[str] = frozenset()

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that engines search."""
        return frozenset({self.namespace}) if self.namespace else self.known

    def holds(self, owned: Owned) -> bool:
        """Whether the thing is within the scope."""
        return not self.namespace or owned.namespace == self.namespace


async def find(dependencies: Dependencies, scope: Scope, living: Callable[[], Awaitable[Living]]) -> list[Thing]:
    """All things that belong to no resource. Raises OutageError or RejectedError when a system could not be searched.

    Resources are listed after the things. The other way round, a resource created in between would be missing from the list, and
    and the objects it has made already would look orphaned.
    """
    things = [thing async for thing in _all(dependencies, scope) if scope.holds(thing.owned)]
    there = await _with_records(await living(), things, dependencies)
    now = dependencies.clock.now()
    found = [_judged(thing, there, now) for thing in things if not there.has(thing.owned, thing.what)]
    order = list(What)
    return sorted(found, key=lambda thing: (order.index(thing.what), thing.owned.namespace, thing.owned.name))


def removable(things: Iterable[Thing], *, retained: bool) -> list[Thing]:
    """The things that may be removed; with ``retained``, also those that deletionPolicy Retain kept."""
    states = {State.ORPHANED, State.RETAINED} if retained else {State.ORPHANED}
    return [thing for thing in things if thing.state in states]


async def remove(thing: Thing, dependencies: Dependencies) -> None:
    """Remove one thing. Raises OutageError or RejectedError."""
    name = thing.owned.name
    match thing.what:
        case What.RUN:
            await dependencies.pipelines.cancel(RunName(name))
            await dependencies.pipelines.delete(RunName(name))
        case What.SERVER:
            await dependencies.serving.remove(thing.owned.uid)
        case What.VERSION:
            model, _, version = name.rpartition("/")
            await dependencies.registry.delete_version(model, version)
        case What.TRACKED:
            await dependencies.tracking.delete_run(name)
        case _:
            await dependencies.objects.delete(thing.path)


async def _with_records(living: Living, things: Iterable[Thing], dependencies: Dependencies) -> Living:
    """``living``, where each resource's text includes its records: in a rebuilt cluster it takes over the named things."""
    texts = dict(living.texts)
    for thing in things:
        keeper = living.keeper(thing.owned) if thing.what is What.RECORD else ""
        if keeper:
            for name in await dependencies.objects.names(thing.path):
                content = await dependencies.objects.read_json(f"{thing.path}/{name}")
                texts[keeper] += json.dumps(content)
    return Living(living.uids, texts)


def _judged(thing: Thing, living: Living, now: datetime) -> Thing:
    kept, user = thing.what in KEPT or thing.owned.kept, living.user(thing.owned)
    state = State.RETAINED if kept else State.ORPHANED
    if user:
        state = State.USED
    elif thing.owned.made_at is None:
        state = State.UNKNOWN
    elif now - thing.owned.made_at < YOUNGEST:
        state = State.YOUNG
    return Thing(thing.what, thing.owned, state, user, thing.path)


async def _all(dependencies: Dependencies, scope: Scope) -> AsyncIterator[Thing]:
    runs = {run.name: run for run in await dependencies.pipelines.owned(scope.namespaces)}
    for run in runs.values():
        yield Thing(What.RUN, run)
    for server in await dependencies.serving.owned(scope.namespaces):
        yield Thing(What.SERVER, server)
    # MLflow is shared: a run or version without our seal was made by others, even if its tags say otherwise, and is left alone.
    for tracked in await dependencies.tracking.owned():
        namespace = sealed_runs.namespace_of_run(dependencies.authority, tracked)
        if namespace is not None:
            yield Thing(What.TRACKED, Owned(tracked.id, tracked.tags[UID_TAG], namespace, tracked.started_at))
    for version in await dependencies.registry.owned():
        namespace = sealed_runs.namespace_of(dependencies.authority, version)
        if namespace is not None:
            name = f"{version.model}/{version.version}"
            yield Thing(What.VERSION, Owned(name, version.tags[UID_TAG], namespace, version.made_at))
    async for thing in _stored(dependencies, scope, runs):
        yield thing


async def _stored(dependencies: Dependencies, scope: Scope, runs: Mapping[str, Owned]) -> AsyncIterator[Thing]:
    # By prefix, the one namespace that has it; empty where several share it, so that a run's folder cannot be attributed.
    prefixes = {"": ""}
    for namespace in sorted(scope.namespaces):
        prefix = (await dependencies.tenants.find(namespace)).storage_prefix
        prefixes[prefix] = "" if prefix in prefixes else namespace
    for prefix, namespace in prefixes.items():
        tenant = Tenant(storage_prefix=prefix)
        async for thing in _folders(dependencies, tenant):
            yield thing
        async for thing in _of_runs(dependencies, tenant, runs, namespace):
            yield thing
        async for thing in _records(dependencies, tenant):
            yield thing


async def _folders(dependencies: Dependencies, tenant: Tenant) -> AsyncIterator[Thing]:
    """Folders named after a namespace and a uid."""
    for what, top in ((What.DATASETS, DATASETS), (What.MODELS, MODELS)):
        for namespace in await dependencies.objects.names(tenant.below(top)):
            for uid in await dependencies.objects.names(tenant.below(f"{top}/{namespace}")):
                if uid_in(f"dataset-{uid}-{'0' * 12}") is None:
                    continue  # Not named after a uid, so not ours.
                path = tenant.below(f"{top}/{namespace}/{uid}")
                owned = Owned(path, uid, namespace, await dependencies.objects.written_at(path))
                yield Thing(what, owned, path=path)


async def _of_runs(
    dependencies: Dependencies, tenant: Tenant, runs: Mapping[str, Owned], usual: str
) -> AsyncIterator[Thing]:
    """Folders named after a pipeline run. ``usual`` is the namespace for runs that the engine no longer knows."""
    for what, top, place in ((What.REPORT, "reports", report_folder), (What.WORKSPACE, "workspaces", workspace)):
        for name in await dependencies.objects.names(tenant.below(top)):
            uid = uid_in(name)
            if uid is None:
                continue
            path = place(RunName(name), tenant)
            namespace = runs[name].namespace if name in runs else usual
            yield Thing(what, Owned(path, uid, namespace, await dependencies.objects.written_at(path)), path=path)


async def _records(dependencies: Dependencies, tenant: Tenant) -> AsyncIterator[Thing]:
    """Folders of records, named after the resource. They outlive it on purpose, for clusters that are restored."""
    for namespace in await dependencies.objects.names(tenant.below(RECORDS)):
        for kind in await dependencies.objects.names(tenant.below(f"{RECORDS}/{namespace}")):
            for name in await dependencies.objects.names(tenant.below(f"{RECORDS}/{namespace}/{kind}")):
                path = tenant.below(f"{RECORDS}/{namespace}/{kind}/{name}")
                owned = Owned(
                    f"{RECORDS}/{namespace}/{kind}/{name}", "", namespace, await dependencies.objects.written_at(path)
                )
                yield Thing(What.RECORD, owned, path=path)
