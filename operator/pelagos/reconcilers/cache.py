"""The latest known version of every resource, from the watch and from the replies to our own writes.

The two sources have no common order: kopf delivers the events of each resource in a separate task, and the reply to a write may
arrive before or after the event about it. Older versions are therefore dropped by resourceVersion, here and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from pelagos.api import kinds, trial
from pelagos.ports.cluster import Key, Resource


class Cache:
    """Resources by key, with an index of which resources refer to which."""

    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}
        self._dependents: dict[Key, set[Key]] = defaultdict(set)
        self._lists: dict[str, tuple[str, frozenset[str]]] = {}
        """By kind: the resourceVersion of the last list, and the uids in it."""
        self._asked: dict[str, int] = {}
        """By kind: the newest resourceVersion that was known when the last list was requested."""
        self._unseen: dict[str, set[str]] = {}
        """By kind: uids in the last list whose resources kopf has yet to deliver."""
        self.on_change: Callable[[Key], None] = lambda _key: None
        """Called with the key of a resource that was added, changed or removed, whether by others or by our own writes."""

    def get(self, key: Key) -> Resource | None:
        """The latest known version of the resource; None when it is not known."""
        return self._resources.get(key)

    def namespace_of(self, uid: str) -> str | None:
        """The namespace of the resource with this uid; None when it is not known."""
        return next((found.namespace for found in self._resources.values() if found.uid == uid), None)

    def all(self) -> tuple[Resource, ...]:
        """The latest known versions of all resources, of every kind and namespace."""
        return tuple(self._resources.values())

    @property
    def is_complete(self) -> bool:
        """Whether the cache holds every resource that the API server listed, and no kind is being listed again.

        Until then, a resource that is missing here may still exist.
        """
        return all(kind.kind in self._lists and not self._unseen.get(kind.kind) for kind in kinds.KINDS)

    def is_news(self, key: Key, uid: str, version: str) -> bool:
        """Whether this resourceVersion of this uid is newer than what is known. False also for a resource known to be deleted."""
        known = self._resources.get(key)
        if known is not None:
            # For any uid: etcd's revisions only grow, so a newer version under this name is this resource or its successor.
            return _newer(version, known.version)
        # An event from before a list can be delivered after it. If it passed for a new resource, a deleted one would stay in the
        # cache forever, because no event would report its deletion again. Resources in the list, or newer than it, do exist.
        listed, uids = self._lists.get(key.kind, ("", frozenset[str]()))
        return uid in uids or not listed or _newer(version, listed)

    def put(self, resource: Resource) -> bool:
        """Store a version of a resource. Returns False when it is not news; see `is_news`."""
        # Also when it is not news: it was delivered, and `is_complete` waits for nothing else.
        self._unseen.get(resource.kind.kind, set()).discard(resource.uid)
        if not self.is_news(resource.key, resource.uid, resource.version):
            return False
        # First the reference of the old version: the spec may name another resource now, and a change of the former one must no
        # longer wake this one.
        self._unlink(self._resources.get(resource.key))
        self._resources[resource.key] = resource
        reference = refers_to(resource)
        if reference is not None:
            self._dependents[reference].add(resource.key)
        # Last: the callback reads the cache, and must find this version in it.
        self.on_change(resource.key)
        return True

    def put_written(self, reply: Resource) -> None:
        """Store the reply to a write of ours, unless the resource is no longer known."""
        # The server may have answered before the deletion and the reply arrive after the event about it: the resource would be
        # back, and no further event would remove it.
        if reply.key in self._resources:
            self.put(reply)

    def remove(self, key: Key, uid: str) -> bool:
        """Forget a deleted resource. Returns False when this uid is not known, as when its name belongs to a new resource."""
        self._unseen.get(key.kind, set()).discard(uid)
        known = self._resources.get(key)
        # A late event about an earlier resource must not remove the one that has its name now.
        if known is None or known.uid != uid:
            return False
        self._unlink(self._resources.pop(key))
        self.on_change(key)
        return True

    def ask_for_list(self, kind: str) -> None:
        """A list of all resources of a kind is about to be requested."""
        # The former list no longer counts, since the watch that continued it has ended. `is_complete` is False until the new one.
        self._lists.pop(kind, None)
        versions = (known.version for known in self._resources.values() if known.kind.kind == kind)
        # A server that lost nothing answers with at least this version. Noted at the request and not when the list arrives:
        # replies to our writes in between may be newer than the list, and would make any server look restored from a backup.
        self._asked[kind] = max((int(version) for version in versions if version.isdigit()), default=0)

    def take_page(self, kind: str, version: str, found: Mapping[str, str]) -> tuple[Resource, ...]:
        """A page of the list has arrived. Forgets and returns the resources that it contradicts.

        ``version`` is the resourceVersion of the list; ``found`` maps uids to resourceVersions. Only an API server that was
        restored from a backup contradicts what is known, and its older state is the valid one. A resource that is merely newer
        than the list comes from the reply to a write of ours after the list was requested, and stays.
        """
        return self._forget(
            kind,
            lambda known: (
                _newer(known.version, found.get(known.uid, known.version)) and self._could_hold(known, kind, version)
            ),
        )

    def end_list(self, kind: str, version: str, uids: frozenset[str]) -> tuple[Resource, ...]:
        """The list is complete. Forgets and returns the resources that are not in it.

        After a watch has expired, nothing else reports what was deleted in between.
        """
        self._lists[kind] = (version, uids)
        self._unseen[kind] = {*uids} - {known.uid for known in self._resources.values()}
        return self._forget(kind, lambda known: known.uid not in uids and self._could_hold(known, kind, version))

    def _could_hold(self, known: Resource, kind: str, version: str) -> bool:
        """Whether a list of this resourceVersion would contain ``known`` if it existed.

        True when the list is at least as new as ``known``, and for any list of a server that was restored from a backup.
        """
        was_set_back = version.isdigit() and int(version) < self._asked.get(kind, 0)
        return was_set_back or not _newer(known.version, version)

    def _forget(self, kind: str, condition: Callable[[Resource], bool]) -> tuple[Resource, ...]:
        # Collected first: removing changes the dictionary that is iterated over.
        gone = tuple(known for known in self._resources.values() if known.kind.kind == kind and condition(known))
        for known in gone:
            self.remove(known.key, known.uid)
        return gone

    def referred_to(self, resource: Resource) -> Resource | None:
        """The resource that this one is made from; None when it has no such reference, or the cache does not know the target."""
        reference = refers_to(resource)
        return self._resources.get(reference) if reference is not None else None

    def dependents(self, key: Key) -> tuple[Key, ...]:
        """Keys of the resources that refer to ``key``, and need a pass when it changes."""
        return tuple(self._dependents.get(key, ()))

    def _unlink(self, resource: Resource | None) -> None:
        reference = refers_to(resource) if resource is not None else None
        if resource is None or reference is None:
            return
        self._dependents[reference].discard(resource.key)
        if not self._dependents[reference]:  # Otherwise names that nothing refers to would pile up.
            del self._dependents[reference]


def refers_to(resource: Resource) -> Key | None:
    """Key of the resource that this one is made from; None when it names none. Accepts malformed specs."""
    if resource.kind is kinds.TRAINING_RUN:
        return _key(kinds.DATASET, resource.namespace, resource.spec.get("datasetRef"))
    if resource.kind is kinds.MODEL_SERVICE:
        model = resource.spec.get("model")
        reference = model.get("trainingRunRef") if isinstance(model, dict) else None
        return _key(kinds.TRAINING_RUN, resource.namespace, reference)
    if resource.kind is kinds.TRIAL:
        return Key(kinds.MODEL_SERVICE.kind, resource.namespace, trial.service_of(resource.name, resource.spec))
    return None


def _key(kind: kinds.Kind, namespace: str, reference: object) -> Key | None:
    name = reference.get("name") if isinstance(reference, dict) else None
    return Key(kind.kind, namespace, name) if isinstance(name, str) else None


def intent(resource: Resource) -> tuple[object, ...]:
    """The parts of a resource that others change and reconcilers act on.

    Not status, which we write ourselves: each pass would lead to another one.
    """
    return resource.uid, resource.generation, resource.deleting, resource.annotations


def _newer(one: str, other: str) -> bool:
    """Whether resourceVersion ``one`` is newer than ``other``.

    They are opaque by contract, but numbers in practice. Where they are not, any other version counts as newer.
    """
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other
