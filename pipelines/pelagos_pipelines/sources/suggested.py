"""What a model of ours suggested for images that a tool gives back, from the store of whichever Dataset they were pushed from.

See pelagos_contract.suggestions. All stores of a namespace lie in one folder, and the name that an image has in a tool leads
nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pelagos_contract import beneath, suggestions
from pelagos_contract.suggestions import Marked, Suggested
from pelagos_pipelines.storage import buckets
from pelagos_pipelines.storage.buckets import Bucket, is_remote


def found(store: str, wanted: Mapping[str, Marked]) -> dict[str, Suggested]:
    """What was suggested for images by their names; nothing of those whose suggestion is gone, or damaged.

    ``store`` is the uri, or the folder, of the store of the Dataset that is being prepared. Raises StorageError when object
    storage is away.
    """
    if not store:
        return {}
    above = store.rstrip("/").rpartition("/")[0]
    bucket = Bucket(above) if is_remote(store) else None
    known: dict[str, Suggested] = {}

    def read(name: str) -> None:
        marked = wanted[name]
        content = _in_folder(Path(above), marked.path) if bucket is None else _in_bucket(bucket, marked.path)
        if content is not None:
            with suppress(ValueError):
                known[name] = suggestions.read(content, marked.digest)

    buckets.at_once(read, wanted)
    return known


def _in_folder(folder: Path, path: str) -> bytes | None:
    try:
        return beneath.read(folder, path, suggestions.LARGEST)
    except (OSError, beneath.NoFileError, beneath.TooLargeError):
        return None


def _in_bucket(bucket: Bucket, path: str) -> bytes | None:
    there = bucket.find(path)
    if there is None or there.size > suggestions.LARGEST:
        return None
    read = bucket.read(path)
    return None if read is None else read[0]
