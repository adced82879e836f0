"""What lies outside of Kubernetes and belongs to no resource: finds it, says what may be removed, and removes it on request.

Called by ``pelagos orphans``. Things are left behind when a deletion was forced, a finalizer was taken away, a cluster was lost;
and kept on purpose by ``deletionPolicy: Retain``, which cannot be distinguished from the former once the resource is gone.
Whatever cannot be determined counts as needed.
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
"""What is younger may be of a resource that is just being made."""
RECORDS = "records"
"""Folder of sealed records of results: <namespace>/<plural>/<name>. See reconcilers.records."""


class What(Enum):
    """Kinds of things, in the order in which they are removed."""

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
"""What deletionPolicy Retain keeps."""


class State(Enum):
    """What may become of a thing."""

    ORPHANED = "orphaned"
    RETAINED = "retained"
    USED = "used"
    """A resource that is there names it."""
    YOUNG = "young"
    UNKNOWN = "unknown"
    """Its age is not known."""


@dataclass(frozen=True)
class Thing:
    """One thing; ``owned`` says whose it was; ``path`` is where it is in the object store, if it is there."""

    what: What
    owned: Owned
    state: State = State.ORPHANED
    used_by: str = ""
    path: str = ""

    @property
    def key(self) -> tuple[What, str, str]:
        """Names it among all."""
        return self.what, self.owned.name, self.owned.uid


@dataclass(frozen=True)
class Living:
    """The resources that are there: ``uids``, names as ``kind/namespace/name``, and all that each says, by its name."""

    uids: frozenset[str]
    texts: Mapping[str, str]

    def has(self, owned: Owned, what: What) -> bool:
        """Whether the thing belongs to one of them."""
        return self.keeper(owned) != "" if what is What.RECORD else owned.uid in self.uids

    def keeper(self, record: Owned) -> str:
        """The resource of whose name a record is; empty when there is none."""
        namespace, plural, name = record.name.removeprefix(f"{RECORDS}/").split("/")
        kind = next((known.kind for known in kinds.KINDS if known.plural == plural), "")
        found = f"{kind}/{namespace}/{name}"
        return found if found in self.texts else ""

    def user(self, owned: Owned) -> str:
        """One that names the thing; empty when none does."""
        return next((name for name, text in self.texts.items() if owned.uid and owned.uid in text), "")


@dataclass(frozen=True)
class Scope:
    """Where to look. ``namespace``: only what belongs to it; empty: whatever there is. ``known``: namespaces that there are."""

    namespace: str = ""
    known: frozenset[str] = frozenset()

    @property
    def namespaces(self) -> frozenset[str]:
        """Where engines look."""
        return frozenset({self.namespace}) if self.namespace else self.known

    def holds(self, owned: Owned) -> bool:
        """Whether the thing is within the scope."""
        return not self.namespace or owned.namespace == self.namespace


async def find(dependencies: Dependencies, scope: Scope, living: Callable[[], Awaitable[Living]]) -> list[Thing]:
    """All that belongs to no resource. Raises OutageError or RejectedError when anything could not be looked at.

    Resources are listed last: whatever was there before belongs to one that is listed, or to none.
    """
    things = [thing async for thing in _all(dependencies, scope) if scope.holds(thing.owned)]
    there = await _with_records(await living(), things, dependencies)
    now = dependencies.clock.now()
    found = [_judged(thing, there, now) for thing in things if not there.has(thing.owned, thing.what)]
    order = list(What)
    return sorted(found, key=lambda thing: (order.index(thing.what), thing.owned.namespace, thing.owned.name))


def removable(things: Iterable[Thing], *, retained: bool) -> list[Thing]:
    """What may be removed; with ``retained`` also what deletionPolicy Retain kept."""
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
    """What records say counts as said by the resource of their name, which takes it over when its cluster was rebuilt."""
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
    # MLflow is shared: what carries no seal of ours was made by others, whatever its tags say, and is left alone.
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
    prefixes = {"": ""}  # and the one namespace that has it
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
    """Folders that are named from a namespace and a uid."""
    for what, top in ((What.DATASETS, DATASETS), (What.MODELS, MODELS)):
        for namespace in await dependencies.objects.names(tenant.below(top)):
            for uid in await dependencies.objects.names(tenant.below(f"{top}/{namespace}")):
                if uid_in(f"dataset-{uid}-{'0' * 12}") is None:
                    continue  # No folder of ours.
                path = tenant.below(f"{top}/{namespace}/{uid}")
                owned = Owned(path, uid, namespace, await dependencies.objects.written_at(path))
                yield Thing(what, owned, path=path)


async def _of_runs(
    dependencies: Dependencies, tenant: Tenant, runs: Mapping[str, Owned], usual: str
) -> AsyncIterator[Thing]:
    """Folders that are named from a run; ``usual`` is the namespace of one that is gone."""
    for what, top, place in ((What.REPORT, "reports", report_folder), (What.WORKSPACE, "workspaces", workspace)):
        for name in await dependencies.objects.names(tenant.below(top)):
            uid = uid_in(name)
            if uid is None:
                continue
            path = place(RunName(name), tenant)
            namespace = runs[name].namespace if name in runs else usual
            yield Thing(what, Owned(path, uid, namespace, await dependencies.objects.written_at(path)), path=path)


async def _records(dependencies: Dependencies, tenant: Tenant) -> AsyncIterator[Thing]:
    """Folders of records, which are named from the resource's own name: they outlive it, for a cluster that is restored."""
    for namespace in await dependencies.objects.names(tenant.below(RECORDS)):
        for kind in await dependencies.objects.names(tenant.below(f"{RECORDS}/{namespace}")):
            for name in await dependencies.objects.names(tenant.below(f"{RECORDS}/{namespace}/{kind}")):
                path = tenant.below(f"{RECORDS}/{namespace}/{kind}/{name}")
                owned = Owned(
                    f"{RECORDS}/{namespace}/{kind}/{name}", "", namespace, await dependencies.objects.written_at(path)
                )
                yield Thing(What.RECORD, owned, path=path)
