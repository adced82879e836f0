"""Objects: the store of dataset versions, model packages and reports. Paths are relative to its root, with forward slashes."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from pelagos.ports.marks import mutating

if TYPE_CHECKING:
    from collections.abc import Mapping


class Objects(Protocol):
    """Every method may raise OutageError."""

    def uri(self, path: str) -> str:
        """The uri by which pipelines and serving engines reach the path."""

    def path(self, uri: str) -> str | None:
        """The inverse of ``uri``; None for a uri outside this store."""

    async def read_json(self, path: str) -> Mapping[str, Any] | None:
        """The JSON object in a file; None when there is no file. Raises RejectedError for any other content."""

    async def read_bytes(self, path: str, *, limit: int) -> bytes | None:
        """The content of a file; None when there is none. Raises RejectedError for more than ``limit`` bytes."""

    async def names(self, path: str) -> tuple[str, ...]:
        """The sorted names of a folder's files and folders, without the contents of those; empty when there is no such folder."""

    @mutating
    async def write_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object to ``path``, replacing any file. Atomic: on failure, nothing has changed."""

    async def written_at(self, path: str) -> datetime | None:
        """When something in the folder was last written; None when there is nothing."""

    async def exists(self, path: str) -> bool:
        """Whether there is a file or a folder at ``path``."""

    @mutating
    async def delete(self, path: str) -> None:
        """Remove a file, or a folder with everything in it. No effect when there is none."""
