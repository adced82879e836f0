"""Volumes: looks at what users put on the data volume, without reading it all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Fingerprint:
    """``digest`` changes when a file below the path is added, removed, renamed or rewritten.

    By names, sizes and times, and by content where that is cheap: of small label files, or where the storage knows its digest.
    """

    digest: str
    files: int


class Volumes(Protocol):
    """Raises RejectedError for a path that leaves the volume."""

    @property
    def root(self) -> str:
        """Where pipelines find the data volume."""

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """Look at a file or folder; None when there is none."""
