"""Registry: named, versioned models with aliases.

Others write to the registry, too. A version is ours only if our seal covers what its tags say; Ownership finds out whose it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pelagos.ports.marks import mutating
from pelagos_contract.tags import RESOURCE_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def namespace_in(tags: Mapping[str, str]) -> str | None:
    """The namespace of the resource that a run or version was made for; None when its tags do not say. Unsealed, so no proof."""
    parts = tags.get(RESOURCE_TAG, "").split("/")
    return parts[1] if len(parts) == 3 else None


@dataclass(frozen=True)
class DesiredModelVersion:
    """A model version that should exist. Filled by decisions/training_run/registration."""

    uid: str
    """The TrainingRun's uid, which identifies the version within ``model``."""
    model: str
    """The name of the registered model."""
    alias: str | None
    """The alias to move to the version when it is created. None: none is moved."""
    source: str
    """Where the tracked run keeps the model."""
    run_id: str
    """The id of the tracked run."""
    tags: Mapping[str, str]
    """The origin of the version: package, digests, resource and inputs."""
    instead_of: str | None = None
    """The version that ``alias`` must point to, or nothing is created and the alias does not move; tags.NOBODY: no version may
    have it. None: it may point to any version. A tag repeats this, so that a later pass can finish after a crash."""
    sharing: tuple[str, ...] = ()
    """Namespaces that share their models with the one that ``tags`` name."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version. If it is ours, ``tags`` have the package's uri and the SHA-256 of the ONNX graph."""

    model: str
    version: str
    source: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    made_at: datetime | None = None


if TYPE_CHECKING:
    Ownership = Callable[[ModelVersion], str | None]
    """Returns the namespace that a version was registered for, if our seal confirms it; None for a version that is not ours."""


class Registry(Protocol):
    """Every method may raise OutageError or RejectedError."""

    async def find_by_uid(self, model: str, uid: str, ownership: Ownership) -> ModelVersion | None:
        """The version that the resource with this uid registered, under our seal; None when there is none."""

    async def find_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points to, regardless of its creator; None when model or alias is unknown."""

    async def find_by_version(self, model: str, version: str) -> ModelVersion | None:
        """The version with this number, regardless of its creator; None when there is none."""

    async def owner(self, model: str, ownership: Ownership) -> str | None:
        """The namespace that the model belongs to; None when it belongs to none."""

    async def owned(self) -> tuple[ModelVersion, ...]:
        """All versions with the uid of any resource in their tags, regardless of their creator."""

    @mutating
    async def register(self, want: DesiredModelVersion, ownership: Ownership) -> ModelVersion:
        """Create the version, exactly once per uid, and move its alias to it if it is new.

        Versions of others are left alone. Raises ChangedError, and creates nothing, when the alias points to another version than
        ``want.instead_of``. Raises RejectedError for a model of another namespace than the one that ``want.tags`` name, unless
        that is one of ``want.sharing``.
        """

    @mutating
    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and the model if it was the last one. No effect when it no longer exists."""
