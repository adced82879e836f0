"""Registry: named, versioned models with aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE_URI_TAG = "pelagos.dev/package-uri"
ONNX_SHA256_TAG = "pelagos.dev/onnx-sha256"
MANIFEST_SHA256_TAG = "pelagos.dev/manifest-sha256"
"""The digest of the package's description, which pins all of it."""
RESOURCE_TAG = "pelagos.dev/resource"
"""On versions: ``trainingrun/<namespace>/<name>``. A model belongs to the namespace of its first version that has this tag."""
SHARED_TAG = "pelagos.dev/shared"
"""On a model, with the value ``true``: every namespace may register in it, and move its aliases."""


def namespace_in(tags: Mapping[str, str]) -> str | None:
    """The namespace of the resource that a version was registered for; None when its tags do not say."""
    parts = tags.get(RESOURCE_TAG, "").split("/")
    return parts[1] if len(parts) == 3 else None


@dataclass(frozen=True)
class ModelVersionWant:
    """A model version to be; ``uid`` (of the TrainingRun) identifies it within ``model``. ``alias`` is moved to it when given."""

    uid: str
    model: str
    alias: str | None
    source: str
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ModelVersion:
    """A registered version. ``tags`` hold the package's uri and the ONNX graph's sha256."""

    model: str
    version: str
    source: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


class Registry(Protocol):
    """Every method may raise OutageError or RejectedError."""

    async def find_by_uid(self, model: str, uid: str) -> ModelVersion | None:
        """The version that the resource ``uid`` registered."""

    async def find_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points to; None when model or alias is unknown."""

    async def find_by_version(self, model: str, version: str) -> ModelVersion | None:
        """The version by its number; None when unknown."""

    async def owner(self, model: str) -> str | None:
        """The namespace that the model belongs to; None when it is nobody's, or shared."""

    async def register(self, want: ModelVersionWant) -> ModelVersion:
        """Make the version exist exactly once per uid, and its alias point to it when it is newly made.

        Raises RejectedError for a model of another namespace than the one that ``want.tags`` names.
        """

    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and the model when it was the last; no effect when it is gone."""
