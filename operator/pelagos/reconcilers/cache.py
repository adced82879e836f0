"""What the API server last showed of every resource. Filled by the watch and by the answers to our own writes.

Two sources without a common order: kopf hands on each resource in a task of its own, and the answer to a write may come before
or after the event about it. What is older than what is known is therefore dropped, by resourceVersion, here and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from pelagos.api import kinds, trial
from pelagos.ports.cluster import Key, Resource


class Cache:
    """Resources by key; knows which resources refer to which."""

    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}
        self._dependents: dict[Key, set[Key]] = defaultdict(set)
        self._lists: dict[str, tuple[str, frozenset[str]]] = {}
        """Of each kind, the resourceVersion of the last list and the uids in it."""
        self._asked: dict[str, int] = {}
        """Of each kind, the newest resourceVersion that was known when the last list was asked for."""
        self._unseen: dict[str, set[str]] = {}
        """Of each kind, the uids in the last list of resources that have yet to be handed on."""
        self.on_change: Callable[[Key], None] = lambda _key: None
        """Called with the key of a resource that was seen new, changed or gone, by others or by our own writes."""

    def get(self, key: Key) -> Resource | None:
        """The resource, as last seen."""
        return self._resources.get(key)

    def namespace_of(self, uid: str) -> str | None:
        """The namespace of the resource ``uid``; None when it is not known."""
        return next((found.namespace for found in self._resources.values() if found.uid == uid), None)

    def all(self) -> tuple[Resource, ...]:
        """All resources."""
        return tuple(self._resources.values())

    @property
    def is_complete(self) -> bool:
        """Whether all that the API server has listed is known, and no kind is being listed anew: nothing else is there."""
        return all(kind.kind in self._lists and not self._unseen.get(kind.kind) for kind in kinds.KINDS)

    def is_news(self, key: Key, uid: str, version: str) -> bool:
        """Whether a resource of this uid and resourceVersion is neither known already nor older than what is known."""
        known = self._resources.get(key)
        if known is not None:
            # Whatever the uid: etcd's revisions only grow, so that a newer version under this name is a later life of it.
            return _newer(version, known.version)
        # An event from before a list can be handed on after it. Taken for a new resource, one that is gone would come back for
        # ever, because no event would report its end again. What is in the list, or newer than it, is really there.
        listed, uids = self._lists.get(key.kind, ("", frozenset[str]()))
        return uid in uids or not listed or _newer(version, listed)

    def put(self, resource: Resource) -> bool:
        """Remember what was seen; False when it is known already or older than what is known."""
        self._unseen.get(resource.kind.kind, set()).discard(resource.uid)
        if not self.is_news(resource.key, resource.uid, resource.version):
            return False
        # The reference of the old one first: spec may name another resource now, and that must not wake this one any more.
        self._unlink(self._resources.get(resource.key))
        self._resources[resource.key] = resource
        reference = refers_to(resource)
        if reference is not None:
            self._dependents[reference].add(resource.key)
        # Last: who is woken by this reads the cache.
        self.on_change(resource.key)
        return True

    def put_written(self, reply: Resource) -> None:
        """Remember the reply to a write of ours; a resource that the watch has seen go meanwhile stays gone."""
        # The reply was made before the resource went, and may arrive after the event of its deletion.
        if reply.key in self._resources:
            self.put(reply)

    def remove(self, key: Key, uid: str) -> bool:
        """Forget a resource that is gone; False when nothing of this uid is known, as when its name has a new one."""
        self._unseen.get(key.kind, set()).discard(uid)
        known = self._resources.get(key)
        # Late news of an earlier life must not remove the resource that has its name now.
        if known is None or known.uid != uid:
            return False
        self._unlink(self._resources.pop(key))
        self.on_change(key)
        return True

    def ask_for_list(self, kind: str) -> None:
        """A list of all of a kind is being asked for: a server that lost nothing answers with all that is known by now."""
        # Until the list is there, nothing can be held against the former one: the watch that it began has ended.
        self._lists.pop(kind, None)
        versions = (known.version for known in self._resources.values() if known.kind.kind == kind)
        # Noted when the list is asked for, not when it comes: replies to our writes meanwhile may be newer than any list.
        self._asked[kind] = max((int(version) for version in versions if version.isdigit()), default=0)

    def take_page(self, kind: str, version: str, found: Mapping[str, str]) -> tuple[Resource, ...]:
        """A page of the list, as of ``version``, has come: versions by uid. Forgets, and returns, what it contradicts.

        Only an API server that was restored from a backup contradicts what is known: what it says now holds, old as it is. A
        resource that is merely newer than the list is the reply to a write of ours after the list was asked for, and stays.
        """
        return self._forget(
            kind,
            lambda known: (
                _newer(known.version, found.get(known.uid, known.version)) and self._could_hold(known, kind, version)
            ),
        )

    def end_list(self, kind: str, version: str, uids: frozenset[str]) -> tuple[Resource, ...]:
        """The list has come. Forgets, and returns, what is not in it: after an expired watch nothing else reports deletions."""
        self._lists[kind] = (version, uids)
        self._unseen[kind] = {*uids} - {known.uid for known in self._resources.values()}
        return self._forget(kind, lambda known: known.uid not in uids and self._could_hold(known, kind, version))

    def _could_hold(self, known: Resource, kind: str, version: str) -> bool:
        """Whether a list as of ``version`` could hold what is known, or is of a server that was set back."""
        was_set_back = version.isdigit() and int(version) < self._asked.get(kind, 0)
        return was_set_back or not _newer(known.version, version)

    def _forget(self, kind: str, condition: Callable[[Resource], bool]) -> tuple[Resource, ...]:
        # First all, then one after another: removing changes the dictionary that is looked through.
        gone = tuple(known for known in self._resources.values() if known.kind.kind == kind and condition(known))
        for known in gone:
            self.remove(known.key, known.uid)
        return gone

    def referred_to(self, resource: Resource) -> Resource | None:
        """The other resource that this one is made from, if it is known."""
        reference = refers_to(resource)
        return self._resources.get(reference) if reference is not None else None

    def dependents(self, key: Key) -> tuple[Key, ...]:
        """Resources that refer to ``key`` and must look again when it changes."""
        return tuple(self._dependents.get(key, ()))

    def _unlink(self, resource: Resource | None) -> None:
        reference = refers_to(resource) if resource is not None else None
        if resource is None or reference is None:
            return
        self._dependents[reference].discard(resource.key)
        if not self._dependents[reference]:  # Otherwise names that are no longer referred to would pile up.
            del self._dependents[reference]


def refers_to(resource: Resource) -> Key | None:
    """The other resource that this one is made from; None when there is none. Spec may be malformed."""
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
    """What others change and reconcilers act on. Not status, which we write ourselves: each pass would lead to another one."""
    return resource.uid, resource.generation, resource.deleting, resource.annotations


def _newer(one: str, other: str) -> bool:
    """Whether a resourceVersion is newer. They are opaque by contract, and numbers in every server there is."""
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other
