"""An API server in memory. For tests of reconcilers; behaves as kube-apiserver does for a CRD with the status subresource.

Applies defaults and prunes by the schemas of the CRDs, increments generation and resourceVersion, rejects stale writes, and
notifies watchers. It does not refuse invalid specs: servers without CEL admit them, and reconcilers must cope with that.
"""

from __future__ import annotations

import functools
import json
import marshal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pelagos.api import kinds, merge_patches, schemas
from pelagos.api.kinds import Kind
from pelagos.api.service_logins import ServiceLogin
from pelagos.ports.cluster import Key, Resource, from_body
from pelagos.ports.errors import OutageError, TooLargeError, UnboundError
from pelagos_contract.base import Strict
from pelagos_contract.sources import SOURCES

Body = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """A Kubernetes event that was posted."""

    key: Key
    severity: str
    reason: str
    message: str


@dataclass(frozen=True)
class Gone:
    """The news that the resource with this uid was deleted."""

    key: Key
    uid: str


@dataclass(frozen=True)
class Backup:
    """The contents of the API server at some time, for ``restore``."""

    bodies: Mapping[Key, Body]
    serial: int


@dataclass(frozen=True)
class Watcher:
    """Callbacks for changes and lists. A watcher without ``lags`` is notified of changes at once, regardless of ``lagging``."""

    seen: Callable[[Resource], None]
    gone: Callable[[Key, str], None]
    list_asked: Callable[[str], None] = lambda _kind: None
    page_came: Callable[[str, str, Mapping[str, str]], None] = lambda _kind, _version, _found: None
    list_ended: Callable[[str, str, frozenset[str]], None] = lambda _kind, _version, _uids: None
    lags: bool = True


class ClusterFake:
    """Implements Cluster. ``outage`` makes every call fail; ``lagging`` holds events of watches back until ``catch_up``.

    ``largest`` is the size limit of a resource in bytes. ``status_patches`` counts calls that changed something,
    ``finalizer_writes`` calls that succeeded; ``events`` has the events that were posted.
    """

    def __init__(self) -> None:
        self.outage = False
        self.lagging = False
        self.largest = 1_500_000
        self.status_patches = 0
        self.finalizer_writes = 0
        self.events: list[Event] = []
        self.tokens: dict[tuple[str, str], str] = {}
        """Tokens in Secrets, by namespace and name."""
        self.logins: dict[tuple[str, str], ServiceLogin] = {}
        """Logins for the gateway, by namespace and name of the ModelService."""
        self.refusal: str | None = None
        """Why owned resources and Secrets are refused; None: they are not."""
        self.created: Callable[[], str] = lambda: "2026-01-01T00:00:00Z"
        """The creationTimestamp of new resources."""
        self._kinds: dict[str, Kind] = {}
        self._bodies: dict[Key, Body] = {}
        self._watchers: list[Watcher] = []
        self._news: list[Gone | Resource] = []
        self._serial = 0

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """The resource as it is now; None when there is none."""
        if self.outage:
            raise OutageError("kubernetes", "connection refused")
        return self.get(Key(kind.kind, namespace, name))

    async def list(self, kind: Kind, namespace: str) -> tuple[Resource, ...]:
        """All resources of a kind in a namespace as they are now."""
        if self.outage:
            raise OutageError("kubernetes", "connection refused")
        return tuple(
            found
            for key in self._bodies
            if (key.kind, key.namespace) == (kind.kind, namespace) and (found := self.get(key))
        )

    async def create_owned(self, owner: Resource, kind: Kind, name: str, spec: Mapping[str, Any]) -> None:
        """Create a resource that ``owner`` owns, unless one of this name exists."""
        self._allow()
        if Key(kind.kind, owner.namespace, name) not in self._bodies:
            self.create(kind, name, spec, namespace=owner.namespace, owner=owner.uid)

    async def issue_token(self, owner: Resource, name: str, token: str) -> None:
        """Keep a token, in place of one of this name."""
        self._allow()
        self.tokens[owner.namespace, name] = token

    async def revoke_token(self, owner: Resource, name: str) -> None:
        """Remove a token. No effect when there is none."""
        self._allow()
        self.tokens.pop((owner.namespace, name), None)

    async def publish_login(self, owner: Resource, login: ServiceLogin) -> None:
        """Keep a login, in place of an earlier one."""
        self._allow()
        self.logins[owner.namespace, owner.name] = login

    async def withdraw_login(self, owner: Resource) -> None:
        """Remove a login. No effect when there is none."""
        self._allow()
        self.logins.pop((owner.namespace, owner.name), None)

    def _allow(self) -> None:
        if self.outage:
            raise OutageError("kubernetes", "connection refused")
        if self.refusal is not None:
            raise UnboundError("kubernetes", self.refusal)

    async def patch_status(self, resource: Resource, patch: Mapping[str, Any]) -> Resource | None:
        """Merge ``patch`` into status, and touch nothing else. Raises AssertionError for fields that the CRD would drop."""
        body = self._find(resource)
        if body is None:
            return None
        whole = merge_patches.merged(body.get("status", {}), _copied(patch))
        status = _structured(_schema(resource.kind.status), whole)
        if status != whole:
            raise AssertionError(f"the CRD of {resource.kind.kind} would drop a part of status: {whole} -> {status}")
        size = len(json.dumps({**body, "status": status}))
        if size > self.largest:
            raise TooLargeError("kubernetes", f"PATCH {resource.name}: 500 etcdserver: request is too large")
        if status != body.get("status", {}):
            self.status_patches += 1
            self._store(resource.key, {**body, "status": status})
        return self.get(resource.key)

    async def set_finalizers(self, resource: Resource, finalizers: tuple[str, ...]) -> Resource | None:
        """Set metadata.finalizers, unless the resource has been changed since."""
        body = self._find(resource)
        if body is None:
            return None
        metadata = body["metadata"]
        if metadata["resourceVersion"] != resource.version:
            raise OutageError("kubernetes", f"PATCH {resource.name}: 409 the object has been modified")
        if metadata.get("deletionTimestamp") and set(finalizers) - set(metadata["finalizers"]):
            raise OutageError("kubernetes", f"PATCH {resource.name}: 422 no new finalizers when it is being deleted")
        self.finalizer_writes += 1
        self._store(resource.key, {**body, "metadata": {**metadata, "finalizers": list(finalizers)}})
        return self.get(resource.key) or from_body(resource.kind, {**body, "metadata": {**metadata, "finalizers": []}})

    async def delete_resource(self, resource: Resource) -> bool:
        """Begin to delete the resource, unless it has been changed since, or no longer exists."""
        if self.outage:
            raise OutageError("kubernetes", "connection refused")
        body = self._bodies.get(resource.key)
        if body is None or body["metadata"]["resourceVersion"] != resource.version:
            return False
        self.delete(resource.key)
        return True

    async def post_event(
        self, resource: Resource, *, severity: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Post a Kubernetes event about the resource. During an outage it is lost."""
        if not self.outage:
            self.events.append(Event(resource.key, severity, reason, message))

    def get(self, key: Key) -> Resource | None:
        """The resource as it is now, even during an outage; None when there is none."""
        body = self._bodies.get(key)
        return from_body(self._kinds[key.kind], _copied(body)) if body is not None else None

    def all(self) -> tuple[Resource, ...]:
        """Every resource as it is now, in the order of creation."""
        return tuple(found for key in self._bodies if (found := self.get(key)) is not None)

    def create(
        self,
        kind: Kind,
        name: str,
        spec: Mapping[str, Any],
        *,
        namespace: str = "default",
        owner: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> Resource:
        """Create a resource, as a user does with ``kubectl create``."""
        key = Key(kind.kind, namespace, name)
        if key in self._bodies:
            raise AssertionError(f"{key} exists already")
        self._kinds[kind.kind] = kind
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": f"00000000-0000-4000-8000-{self._serial + 1:012x}",
            "generation": 1,
            "creationTimestamp": self.created(),
        }
        metadata |= {"annotations": dict(annotations)} if annotations else {}
        metadata |= {"ownerReferences": [{"uid": owner}]} if owner else {}
        self._store(key, {"metadata": metadata, "spec": _structured(_schema(kind.spec), dict(spec))})
        return self._now(key)

    def edit(self, key: Key, spec: Mapping[str, Any]) -> Resource:
        """Merge into spec, as a user does with ``kubectl patch``. None removes a field, so that it has its default again."""
        body = self._bodies[key]
        edited = _structured(_schema(self._kinds[key.kind].spec), merge_patches.merged(body["spec"], _copied(spec)))
        if edited != body["spec"]:
            metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
            self._store(key, {**body, "metadata": metadata, "spec": edited})
        return self._now(key)

    def annotate(self, key: Key, name: str, value: str) -> Resource:
        """Set an annotation, as a user does with ``kubectl annotate --overwrite``."""
        body = self._bodies[key]
        annotations = {**body["metadata"].get("annotations", {}), name: value}
        self._store(key, {**body, "metadata": {**body["metadata"], "annotations": annotations}})
        return self._now(key)

    def lose_status(self, key: Key) -> Resource:
        """Empty the status and keep the rest, as a restore from a backup does."""
        self._store(key, {name: part for name, part in self._bodies[key].items() if name != "status"})
        return self._now(key)

    def change_status(self, key: Key, status: Mapping[str, Any]) -> Resource:
        """Change the status, as somebody else with access to it."""
        body = self._bodies[key]
        self._store(key, {**body, "status": {**body.get("status", {}), **status}})
        return self._now(key)

    def delete(self, key: Key, at: str = "2026-01-01T00:00:00Z") -> None:
        """Begin a deletion, as a user does with ``kubectl delete --wait=false``."""
        body = self._bodies[key]
        metadata = body["metadata"]
        if not metadata.get("deletionTimestamp"):
            stamped = {"deletionTimestamp": at, "generation": metadata["generation"] + 1}
            self._store(key, {**body, "metadata": {**metadata, **stamped}})

    def hold(self, key: Key, finalizer: str) -> Resource:
        """Add another controller's finalizer, which keeps the resource when it is deleted."""
        body = self._bodies[key]
        finalizers = [*body["metadata"].get("finalizers", ()), finalizer]
        self._store(key, {**body, "metadata": {**body["metadata"], "finalizers": finalizers}})
        return self._now(key)

    def remove(self, key: Key) -> None:
        """Delete a resource for good, as when another operator has cleaned up after it."""
        self.delete(key)
        body = self._bodies.get(key)
        if body is not None:
            self._store(key, {**body, "metadata": {**body["metadata"], "finalizers": []}})

    def watch(self, watcher: Watcher) -> None:
        """List everything to the watcher, then notify it of changes."""
        self._watchers.append(watcher)
        self._list(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Stop notifying a watcher, as when its process has ended."""
        self._watchers = [known for known in self._watchers if known is not watcher]

    def catch_up(self) -> None:
        """Deliver events that were held back, and hold none back from now on."""
        self.lagging = False
        news, self._news = self._news, []
        for item in news:
            self._tell(item, lagging=True)

    def expire(self) -> None:
        """Let the watches expire: events that were held back are lost, and watchers get new lists."""
        self.lagging, self._news = False, []
        for watcher in tuple(self._watchers):
            if watcher.lags:
                self._list(watcher)

    def restore(self, backup: Backup) -> None:
        """Return to the state of the backup, including resourceVersions, as after a restore of etcd. Watches ``expire``."""
        self._bodies, self._serial = dict(backup.bodies), backup.serial
        self.expire()

    def rebuild(self, *, keeps_status: bool = False) -> None:
        """Become another cluster to which all resources were applied again: with other uids, and without status. Watches end.

        ``keeps_status``: as after a restore that includes status.
        """
        for key, body in list(self._bodies.items()):
            kept = {
                name: body["metadata"][name]
                for name in ("namespace", "name", "annotations")
                if name in body["metadata"]
            }
            del self._bodies[key]
            metadata = {**kept, "uid": f"uid-{self._serial + 1}", "generation": 1}
            status = {"status": body["status"]} if keeps_status and "status" in body else {}
            self._store(key, {"metadata": metadata, "spec": body["spec"], **status})
        self.expire()

    def backup(self) -> Backup:
        """The present state, for ``restore``."""
        return Backup(dict(self._bodies), self._serial)

    def _list(self, watcher: Watcher) -> None:
        for name in (kind.kind for kind in kinds.KINDS):
            found = [resource for resource in self.all() if resource.kind.kind == name]
            watcher.list_asked(name)
            watcher.page_came(name, str(self._serial), {resource.uid: resource.version for resource in found})
            for resource in found:
                watcher.seen(resource)
            watcher.list_ended(name, str(self._serial), frozenset(resource.uid for resource in found))

    def _find(self, resource: Resource) -> Body | None:
        if self.outage:
            raise OutageError("kubernetes", "connection refused")
        body = self._bodies.get(resource.key)
        if body is not None and body["metadata"]["uid"] != resource.uid:
            raise OutageError("kubernetes", f"PATCH {resource.name}: 409 the uid in the precondition differs")
        return body

    def _store(self, key: Key, body: Body) -> None:
        self._serial += 1
        metadata = {**body["metadata"], "resourceVersion": str(self._serial)}
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            del self._bodies[key]
            self._news_of(Gone(key, metadata["uid"]))
        else:
            self._bodies[key] = {**body, "metadata": metadata}
            self._news_of(self._now(key))

    def _now(self, key: Key) -> Resource:
        return from_body(self._kinds[key.kind], _copied(self._bodies[key]))

    def _news_of(self, item: Gone | Resource) -> None:
        self._tell(item, lagging=False)
        if self.lagging:
            self._news.append(item)
        else:
            self._tell(item, lagging=True)

    def _tell(self, item: Gone | Resource, *, lagging: bool) -> None:
        for watcher in tuple(self._watchers):
            if watcher.lags is not lagging:
                continue
            if isinstance(item, Resource):
                watcher.seen(item)
            else:
                watcher.gone(item.key, item.uid)


def _schema(model: type[Strict]) -> schemas.Schema:
    return _rendered(model, SOURCES.names)


@functools.cache
def _rendered(model: type[Strict], _sources: tuple[str, ...]) -> schemas.Schema:
    # Sources are part of the cache key: one that is registered later adds a field to a schema that was rendered before.
    return schemas.structural(model)


def _copied(value: Any) -> Any:
    """A deep copy of JSON. By marshal, because copying in Python took a third of the time of simulations."""
    return marshal.loads(marshal.dumps(value))  # noqa: S302  its own output


def _structured(schema: Mapping[str, Any], value: Any) -> Any:
    """Prune fields that the schema does not know, and fill in defaults, as the API server does."""
    if isinstance(value, list) and "items" in schema:
        return [_structured(schema["items"], item) for item in value]
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    if "additionalProperties" in schema:
        return {name: _structured(schema["additionalProperties"], item) for name, item in value.items()}
    known = schema.get("properties", {})
    filled = {name: _copied(child["default"]) for name, child in known.items() if "default" in child} | value
    return {name: _structured(known[name], item) for name, item in filled.items() if name in known}
