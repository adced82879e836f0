"""Folders and object storage behind one face, for everything that runs inside pipeline steps and model servers.

A step's parameters name each place as an absolute path or as ``s3://bucket/prefix``. Tasks open them as `places.Place` and go on
with folders. Imports nothing but obstore and the standard library: the init container of a model server uses `fetch`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pelagos_pipelines.storage import buckets, places
from pelagos_pipelines.storage.buckets import Bucket, is_remote
from pelagos_pipelines.storage.errors import (
    ChangedError,
    StorageError,
    StorageRefusedError,
    TakenOverError,
)
from pelagos_pipelines.storage.leases import Lease
from pelagos_pipelines.storage.places import Place

__all__ = [
    "Bucket",
    "ChangedError",
    "Lease",
    "Place",
    "StorageError",
    "StorageRefusedError",
    "TakenOverError",
    "fetch",
    "is_remote",
    "scratch",
]


def scratch() -> Path:
    """The folder below which everything that is kept on object storage has its copy on this machine."""
    return Path(tempfile.gettempdir()) / "pelagos"


def fetch(uri: str, target: Path) -> None:
    """Bring everything below the prefix ``uri`` into the folder ``target``.

    Raises:
        StorageError, StorageRefusedError: see there; also when there is nothing below the prefix.
        OSError: the disk is full, among others.
    """
    bucket = Bucket(uri)
    objects = {entry.path: entry for entry in bucket.list()}
    if not objects:
        raise StorageRefusedError(f"{uri}: there is nothing; check the uri")
    targets = places.safe_targets(objects, Path(target))
    places.require_room(Path(target), objects.values())
    buckets.at_once(lambda path: bucket.download(path, targets[path], etag=objects[path].etag), objects)
