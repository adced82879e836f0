"""Volumes: detects changes of users' files on the data volume, without reading all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Fingerprint:
    """Identifies the content below a path: ``digest`` changes when one of the ``files`` is added, removed, renamed or rewritten.

    Computed from names, sizes and times, and from content where that is cheap: for small label files, or where the storage knows
    the digest.
    """

    digest: str
    files: int


class Volumes(Protocol):
    """Methods raise RejectedError for a path that leads out of the volume."""

    @property
    def root(self) -> str:
        """The path or uri at which pipelines find the data volume."""

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """The fingerprint of a file or folder; None when there is none."""
