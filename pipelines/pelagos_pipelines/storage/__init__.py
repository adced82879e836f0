"""One interface to folders and object storage, for everything that runs inside pipeline steps and model servers.

A step's parameters name each place as an absolute path or as ``s3://bucket/prefix``. Steps open them as `places.Place` and work
with folders from then on. Imports only obstore, pelagos_contract and the standard library: a model server's init container uses
it.
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
    """The local folder below which everything that is kept on object storage has its copy."""
    return Path(tempfile.gettempdir()) / "pelagos"
