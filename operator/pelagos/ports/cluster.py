"""Cluster: the API server, as far as reconcilers need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from pelagos.api.kinds import Kind
from pelagos.api.service_logins import ServiceLogin
from pelagos.ports.marks import mutating

TOKEN_KEY = "token"  # noqa: S105  a name
"""The key in Secrets that holds a token."""


@dataclass(frozen=True)
class Key:
    """Identifies a resource among all others."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Resource:
    """One version of a resource, as the API server returned it. ``version`` is its resourceVersion."""

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
    """From metadata.deletionTimestamp. The resource remains until its finalizers are removed."""
    created_at: datetime | None = None
    """From metadata.creationTimestamp, by the API server's clock."""
    owners: tuple[str, ...] = ()
    """The uids in metadata.ownerReferences."""

    @property
    def key(self) -> Key:
        """Identifies it among all others."""
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
    """Every method may raise OutageError. Those that return a resource return None when it no longer exists."""

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """The resource of this name as the API server has it at this moment; None when there is none."""

    async def list(self, kind: Kind, namespace: str) -> tuple[Resource, ...]:
        """All resources of a kind in a namespace as the API server has them at this moment."""

    @mutating
    async def create_owned(self, owner: Resource, kind: Kind, name: str, spec: Mapping[str, Any]) -> None:
        """Create a resource in the namespace of ``owner``, which owns it. No effect if one exists, even with another owner.

        Raises RejectedError if the API server refuses it.
        """

    @mutating
    async def issue_token(self, owner: Resource, name: str, token: str) -> None:
        """Create the Secret ``name`` with ``token`` in the namespace of ``owner``, which owns it. No effect if it exists.

        Secrets are never read, so the name has to identify the token.
        """

    @mutating
    async def revoke_token(self, owner: Resource, name: str) -> None:
        """Delete such a Secret, if the cluster does not do so when its owner is deleted. No effect when there is none."""

    @mutating
    async def publish_login(self, owner: Resource, login: ServiceLogin) -> None:
        """Put the login for the servers of ``owner`` into the namespace's Secret for the gateway, in place of an earlier one."""

    @mutating
    async def withdraw_login(self, owner: Resource) -> None:
        """Remove it from there. No effect when there is none."""

    @mutating
    async def patch_status(self, resource: Resource, patch: Mapping[str, Any]) -> Resource | None:
        """Merge ``patch`` into status, and touch nothing else. Raises TooLargeError if the result cannot be stored.

        Returns the resource after that.
        """

    @mutating
    async def set_finalizers(self, resource: Resource, finalizers: tuple[str, ...]) -> Resource | None:
        """Set metadata.finalizers, and return the resource after that.

        Raises OutageError, and changes nothing, if the resource has been changed since: the next pass tries again.
        """

    @mutating
    async def delete_resource(self, resource: Resource) -> bool:
        """Begin to delete the resource, unless it has been changed since, or no longer exists. Returns whether it did."""

    @mutating
    async def post_event(
        self, resource: Resource, *, severity: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Post a Kubernetes event about the resource."""
