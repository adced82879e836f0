"""Finds our models' suggestions for images that a tool returns, in the store of the Dataset that they were pushed from.

See pelagos_contract.suggestions. All stores of a namespace are in one folder, and an image's name in a tool cannot lead out of
it.
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
    """The suggestions for images by their names, without missing or damaged ones.

    ``store`` is the URI or folder of the prepared Dataset's store. Raises StorageError when object storage does not answer.
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
