"""Folders and object storage behind one face, for everything that runs inside pipeline steps and model servers.

A step's parameters name each place as an absolute path or as ``s3://bucket/prefix``. Steps open them as `places.Place` and go on
with folders. Imports nothing but obstore and the standard library: the init container of a model server uses it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pelagos_pipelines.storage.buckets import Bucket, is_remote
from pelagos_pipelines.storage.errors import (
    ChangedError,
    StorageError,
    StorageRefusedError,
    TakenOverError,
)
from pelagos_pipelines.storage.leases import Lease
from pelagos_pipelines.storage.places import Place, require_room

__all__ = [
    "Bucket",
    "ChangedError",
    "Lease",
    "Place",
    "StorageError",
    "StorageRefusedError",
    "TakenOverError",
    "is_remote",
    "require_room",
    "scratch",
]


def scratch() -> Path:
    """The folder below which everything that is kept on object storage has its copy on this machine."""
    return Path(tempfile.gettempdir()) / "pelagos"
