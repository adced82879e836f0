"""Paths that users give, checked before anything is looked at. Called by folders and s3 as data volumes."""

from __future__ import annotations

from pelagos.ports.errors import RejectedError

VOLUMES = "volumes"
"""How errors of a data volume name what refuses."""


def require_in_volume(path: str) -> None:
    """Raises RejectedError for a path that could lead out of the data volume."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise RejectedError(VOLUMES, f"{path!r} must be a relative path that stays inside of the data volume")
