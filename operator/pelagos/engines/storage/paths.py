"""Checks paths from users before anything is read. Called by the data volumes in folders and s3."""

from __future__ import annotations

from pelagos.ports.errors import RejectedError

VOLUMES = "volumes"
"""The name of the system in errors of a data volume."""


def require_in_volume(path: str) -> None:
    """Raise RejectedError for a path that could lead out of the data volume."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise RejectedError(VOLUMES, f"{path!r} must be a relative path that stays inside of the data volume")
