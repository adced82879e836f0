"""The Volumes port on S3-compatible storage: reads listings, and never opens a user's file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pelagos.engines.s3.client import Entry, Prefix, Service
from pelagos.engines.storage import paths
from pelagos.engines.storage.paths import VOLUMES
from pelagos.ports.errors import RejectedError
from pelagos.ports.volumes import Fingerprint

if TYPE_CHECKING:
    from pelagos.settings import Settings

MAX_FILES = 1_000_000
"""Most files in one source; more would take too long to list in every pass."""


class S3Volumes:
    """The data volume below ``uri``. Rewriting an object changes its ETag only if the content differs."""

    def __init__(self, uri: str, service: Service, *, max_files: int = MAX_FILES) -> None:
        """Make no connection yet. Raises RejectedError if ``uri`` is not an s3:// uri."""
        self._prefix = Prefix(VOLUMES, uri, service)
        self._max_files = max_files

    @classmethod
    def from_settings(cls, settings: Settings) -> S3Volumes:
        """The volume that ``data_uri`` names."""
        return cls(settings.data_uri, Service.from_settings(settings))

    @property
    def root(self) -> str:
        """The data volume's uri, for pipelines."""
        return self._prefix.uri

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """The fingerprint of a file or folder; None when there is none. Raises RejectedError for paths out of the volume."""
        paths.require_in_volume(path)
        folder = "/".join(part for part in path.split("/") if part not in ("", "."))
        lines: list[str] = []
        async for page in self._prefix.pages(folder):
            # Skip the placeholder object of the folder itself, which web consoles create.
            lines += [_line(entry, folder) for entry in page if entry.path != folder]
            # Checked after each page rather than at the end, so that a pass never goes through a listing of many millions.
            if len(lines) > self._max_files:
                message = f"{folder!r} holds more than {self._max_files} files; divide it into several sources"
                raise RejectedError(VOLUMES, message)
        if not lines and folder and (file := await self._prefix.find(folder)):
            lines = [_line(file, folder)]
        if not lines:
            return None
        # Services list by name, but their orders of names differ.
        digest = hashlib.sha256("".join(sorted(lines)).encode())
        return Fingerprint(digest=f"sha256:{digest.hexdigest()}", files=len(lines))


def _line(entry: Entry, folder: str) -> str:
    """The line of one object. ``repr`` keeps odd names distinct; names are relative, so a moved folder counts as the same."""
    name = "." if entry.path == folder else entry.path.removeprefix(f"{folder}/")
    return f"{name!r} {entry.size} {entry.etag!r}\n"
