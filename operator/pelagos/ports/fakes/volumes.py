"""A data volume in memory. For tests of reconcilers; passes the same contract tests as the engines."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.volumes import Fingerprint

ROOT = "/fake/data"


class VolumesFake:
    """Implements Volumes over ``files``: contents by path. ``outage`` makes every call fail; ``looks`` counts calls."""

    def __init__(self) -> None:
        self.outage = False
        self.looks = 0
        self.files: dict[str, str] = {}

    @property
    def root(self) -> str:
        """An invented root."""
        return ROOT

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """The fingerprint of a file or folder; None when there is none."""
        self.looks += 1
        if self.outage:
            raise OutageError("volumes", "the volume does not answer")
        if path.startswith("/") or ".." in path.split("/"):
            raise RejectedError("volumes", f"{path!r} must be a relative path that stays inside of the data volume")
        folder = str(PurePosixPath(path))
        below = {
            file: content
            for file, content in self.files.items()
            if folder in (".", file) or file.startswith(f"{folder}/")
        }
        if not below:
            return None
        digest = hashlib.sha256(repr(sorted(below.items())).encode()).hexdigest()
        return Fingerprint(digest=f"sha256:{digest}", files=len(below))

    def put(self, path: str, content: str = "") -> None:
        """Write or rewrite a file, as a user would."""
        self.files[path] = content
