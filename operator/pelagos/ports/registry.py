"""Registry: named, versioned models with aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE_URI_TAG = "pelagos.dev/package-uri"
ONNX_SHA256_TAG = "pelagos.dev/onnx-sha256"


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

    async def register(self, want: ModelVersionWant) -> ModelVersion:
        """Make the version exist exactly once per uid, and its alias point to it when it is newly made."""

    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and the model when it was the last; no effect when it is gone."""
