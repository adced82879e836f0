"""Cluster: the API server, as far as reconcilers need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from pelagos.api.kinds import Kind
from pelagos.ports.marks import mutating

TOKEN_KEY = "token"  # noqa: S105  a name
"""Of the Secrets of tokens."""


@dataclass(frozen=True)
class Key:
    """What names a resource among all."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Resource:
    """A resource as the API server last showed it."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    version: str
    deleting: bool
    finalizers: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    deleted_at: datetime | None = None
    """metadata.deletionTimestamp; the resource stays until its finalizers are gone."""
    created_at: datetime | None = None
    """metadata.creationTimestamp, by the API server's clock."""
    owners: tuple[str, ...] = ()
    """Uids in metadata.ownerReferences."""

    @property
    def key(self) -> Key:
        """Its name among all."""
        return Key(self.kind.kind, self.namespace, self.name)


def from_body(kind: Kind, body: Mapping[str, Any]) -> Resource:
    """The resource that the API server describes by ``body``."""
    metadata = body["metadata"]
    deleted, created = metadata.get("deletionTimestamp"), metadata.get("creationTimestamp")
    return Resource(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        version=metadata.get("resourceVersion", ""),
        deleting=bool(deleted),
        finalizers=tuple(metadata.get("finalizers", ())),
        annotations=dict(metadata.get("annotations", {})),
        spec=dict(body.get("spec", {})),
        status=dict(body.get("status", {})),
        deleted_at=datetime.fromisoformat(deleted) if deleted else None,
        created_at=datetime.fromisoformat(created) if created else None,
        owners=tuple(str(owner.get("uid")) for owner in metadata.get("ownerReferences") or ()),
    )


def identity(kind: Kind, body: Mapping[str, Any]) -> tuple[Key, str, str]:
    """Key, uid and resourceVersion of the resource that the API server describes by ``body``."""
    metadata = body["metadata"]
    key = Key(kind.kind, metadata.get("namespace", ""), metadata["name"])
    return key, metadata["uid"], metadata.get("resourceVersion", "")


class Cluster(Protocol):
    """Every method may raise OutageError; a resource that is gone gives None."""

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """The resource of this name as the API server has it at this moment."""

    async def list(self, kind: Kind, namespace: str) -> tuple[Resource, ...]:
        """All resources of a kind in a namespace as the API server has them at this moment."""

    @mutating
    async def create_owned(self, owner: Resource, kind: Kind, name: str, spec: Mapping[str, Any]) -> None:
        """Make a resource beside ``owner``, which owns it. No effect when there is one of this name, whosever it is.

        Raises RejectedError for what the API server refuses.
        """

    @mutating
    async def issue_token(self, owner: Resource, name: str, token: str) -> None:
        """Make the Secret ``name`` beside ``owner``, which owns it, with ``token``. No effect when it is there: Secrets are not
        read, so the name must say what is in it.
        """

    @mutating
    async def revoke_token(self, owner: Resource, name: str) -> None:
        """Delete such a Secret, where the cluster does not do that after its owner. No effect when there is none."""

    @mutating
    async def patch_status(self, resource: Resource, patch: Mapping[str, Any]) -> Resource | None:
        """Merge ``patch`` into status; other fields are not touched. Raises TooLargeError for more than can be stored."""

    @mutating
    async def set_finalizers(self, resource: Resource, finalizers: tuple[str, ...]) -> Resource | None:
        """Set metadata.finalizers, unless the resource has been changed meanwhile (OutageError: try again)."""

    @mutating
    async def delete_resource(self, resource: Resource) -> bool:
        """Begin its deletion, unless the resource has been changed meanwhile, or is gone; returns whether it did."""

    @mutating
    async def post_event(
        self, resource: Resource, *, severity: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Post a Kubernetes event about the resource."""
