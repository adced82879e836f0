"""The Objects port on S3-compatible storage. A uri is ``s3://bucket/prefix/path``, as pipelines and serving engines open it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pelagos.engines.s3.client import Prefix, Service, checked_path
from pelagos.engines.storage import reports
from pelagos.ports.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos.settings import Settings

SYSTEM = "objects"


class S3Objects:
    """Objects below ``uri``. A folder exists when any key below it does; S3 itself has no folders."""

    def __init__(self, uri: str, service: Service) -> None:
        """Make no connection yet. Raises RejectedError if ``uri`` is not an s3:// uri."""
        self._prefix = Prefix(SYSTEM, uri, service)

    @classmethod
    def from_settings(cls, settings: Settings) -> S3Objects:
        """The store that ``objects_uri`` names."""
        return cls(settings.objects_uri, Service.from_settings(settings))

    def uri(self, path: str) -> str:
        """The uri of a path in the store; for "", the store's own. Raises RejectedError for a path that leaves the store."""
        return f"{self._prefix.uri}/{checked_path(SYSTEM, path)}" if path else self._prefix.uri

    def path(self, uri: str) -> str | None:
        """The reverse of ``uri``; None for a uri outside the store."""
        if uri == self._prefix.uri:
            return ""
        path = uri.removeprefix(f"{self._prefix.uri}/")
        try:
            return checked_path(SYSTEM, path) if path != uri else None
        except RejectedError:
            return None

    async def read_json(self, path: str) -> Mapping[str, Any] | None:
        """The JSON object in a file; None when it does not exist. Raises RejectedError for other content."""
        content = await self.read_bytes(path, limit=reports.LARGEST_JSON)
        if content is None:
            return None
        return reports.parsed(SYSTEM, f"{self._prefix.uri}/{path}", content)

    async def read_bytes(self, path: str, *, limit: int) -> bytes | None:
        """The content of a file; None when it does not exist. Raises RejectedError if it has more than ``limit`` bytes."""
        return await self._prefix.get(checked_path(SYSTEM, path), limit)

    async def names(self, path: str) -> tuple[str, ...]:
        """Sorted names of the objects and folders directly in a folder; empty when it does not exist."""
        return await self._prefix.names(checked_path(SYSTEM, path))

    async def write_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object to ``path``. S3 writes are atomic: readers see all of it or nothing."""
        await self._prefix.put(checked_path(SYSTEM, path), json.dumps(document, sort_keys=True).encode())

    async def written_at(self, path: str) -> datetime | None:
        """When anything in the folder was last written; None when it does not exist."""
        latest = None
        async for page in self._prefix.pages(checked_path(SYSTEM, path)):
            times = [entry.written_at for entry in page] + ([latest] if latest else [])
            latest = max(times, default=None)
        return latest

    async def exists(self, path: str) -> bool:
        """Whether a file or a folder exists at ``path``."""
        if await self._prefix.find(checked_path(SYSTEM, path)) is not None:
            return True
        async for page in self._prefix.pages(path):
            if page:
                return True
        return False

    async def delete(self, path: str) -> None:
        """Delete a file, or a folder with all its content; no effect when it does not exist.

        It works page by page: after an interruption the next call continues with the rest.
        """
        # Delete the object of exactly this name first, because pages lists only objects below it.
        await self._prefix.delete([checked_path(SYSTEM, path)])
        async for page in self._prefix.pages(path):
            await self._prefix.delete([entry.path for entry in page])
