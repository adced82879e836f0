"""Registry: named, versioned models with aliases.

Others write to the registry, too. A version is ours only under our seal of what its tags say; Ownership says whose it is.
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
    """The namespace of the resource that a version was registered for; None when its tags do not say."""
    parts = tags.get(RESOURCE_TAG, "").split("/")
    return parts[1] if len(parts) == 3 else None


@dataclass(frozen=True)
class DesiredModelVersion:
    """A model version to be. Filled by decisions/training_run/registration."""

    uid: str
    """Of the TrainingRun; identifies the version within ``model``."""
    model: str
    """The registered model."""
    alias: str | None
    """Moved to the version when that is made; None: none is."""
    source: str
    """Where the tracked run keeps the model."""
    run_id: str
    """The tracked run."""
    tags: Mapping[str, str]
    """What the version is of: package, digests, resource and inputs."""
    instead_of: str | None = None
    """The version that ``alias`` must point to for anything to be made, and from which alone it moves; tags.NOBODY: none.
    None: whichever has it. A tag says the same, for whoever finishes what a crash interrupted."""
    sharing: tuple[str, ...] = ()
    """Namespaces that have their models shared with that of ``tags``."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version. ``tags`` hold the package's uri and the ONNX graph's sha256."""

    model: str
    version: str
    source: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    made_at: datetime | None = None


if TYPE_CHECKING:
    Ownership = Callable[[ModelVersion], str | None]
    """The namespace that a version was registered for, under our seal; None for a version of anybody else."""


class Registry(Protocol):
    """Every method may raise OutageError or RejectedError."""

    async def find_by_uid(self, model: str, uid: str, ownership: Ownership) -> ModelVersion | None:
        """The version that the resource ``uid`` registered, under our seal."""

    async def find_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points to; None when model or alias is unknown."""

    async def find_by_version(self, model: str, version: str) -> ModelVersion | None:
        """The version by its number; None when unknown."""

    async def owner(self, model: str, ownership: Ownership) -> str | None:
        """The namespace that the model belongs to; None when it belongs to none."""

    async def owned(self) -> tuple[ModelVersion, ...]:
        """All versions that carry the uid of any resource, whoever made them."""

    @mutating
    async def register(self, want: DesiredModelVersion, ownership: Ownership) -> ModelVersion:
        """Make the version exist exactly once per uid, and its alias point to it when it is newly made.

        Versions of others are left alone. Raises ChangedError, and makes nothing, when the alias points to another version than
        ``want.instead_of``. Raises RejectedError for a model of another namespace than the one that ``want.tags``
        names, unless it is one of ``want.sharing``.
        """

    @mutating
    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and the model when it was the last; no effect when it is gone."""
