"""Objects: where dataset versions, model packages and reports live. Paths are relative to its root, with forward slashes."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from pelagos.ports.marks import mutating

if TYPE_CHECKING:
    from collections.abc import Mapping


class Objects(Protocol):
    """Every method may raise OutageError."""

    def uri(self, path: str) -> str:
        """The path as pipelines and serving engines reach it."""

    def path(self, uri: str) -> str | None:
        """The reverse of ``uri``; None for a uri outside of this store."""

    async def read_json(self, path: str) -> Mapping[str, Any] | None:
        """A JSON object; None when it is not there. A file that is not a JSON object raises RejectedError."""

    async def read_bytes(self, path: str, *, limit: int) -> bytes | None:
        """The content of a file; None when it is not there. One of more than ``limit`` bytes raises RejectedError."""

    async def names(self, path: str) -> tuple[str, ...]:
        """Sorted names of the files and folders right in a folder; none when it is not there."""

    @mutating
    async def write_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object to ``path``, replacing what is there: completely or, when it fails, not at all."""

    async def written_at(self, path: str) -> datetime | None:
        """When something in the folder was written last; None when nothing is there."""

    async def exists(self, path: str) -> bool:
        """Whether there is a file or a folder."""

    @mutating
    async def delete(self, path: str) -> None:
        """Remove a file or a folder with all that is in it; no effect when it is gone."""
