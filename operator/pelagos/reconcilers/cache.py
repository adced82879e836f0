"""What the API server last showed of every resource. Filled by the watch and by the answers to our own writes."""

from __future__ import annotations

from pelagos.api import kinds
from pelagos.ports.cluster import Key, Resource


class Cache:
    """Resources by key; knows which resources refer to which."""

    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}

    def get(self, key: Key) -> Resource | None:
        """The resource, as last seen."""
        return self._resources.get(key)

    def all(self) -> tuple[Resource, ...]:
        """All resources."""
        return tuple(self._resources.values())

    def put(self, resource: Resource) -> bool:
        """Remember what was seen; False when it is known already or older than what is known."""
        known = self._resources.get(resource.key)
        if known is not None and known.uid == resource.uid and not _newer(resource.version, known.version):
            return False
        self._resources[resource.key] = resource
        return True

    def remove(self, key: Key) -> None:
        """Forget a resource that is gone."""
        self._resources.pop(key, None)

    def dependents(self, key: Key) -> tuple[Key, ...]:
        """Resources that refer to ``key`` and must look again when it changes."""
        return tuple(
            resource.key
            for resource in self._resources.values()
            if resource.namespace == key.namespace and _refers(resource, key)
        )


def _newer(one: str, other: str) -> bool:
    """Whether a resourceVersion is newer. They are opaque by contract, and numbers in every server there is."""
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other


def _refers(resource: Resource, key: Key) -> bool:
    if key.kind == kinds.DATASET.kind and resource.kind is kinds.TRAINING_RUN:
        return _name_in(resource.spec.get("datasetRef")) == key.name
    if key.kind == kinds.TRAINING_RUN.kind and resource.kind is kinds.MODEL_SERVICE:
        model = resource.spec.get("model")
        return isinstance(model, dict) and _name_in(model.get("trainingRunRef")) == key.name
    return False


def _name_in(reference: object) -> object:
    return reference.get("name") if isinstance(reference, dict) else None
