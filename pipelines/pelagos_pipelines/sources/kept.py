"""Reuses images that were fetched before and are in the Dataset's store, if their server reports that they are unchanged.

Each source decides how: by a conditional request (RFC 9110, section 13), by the state of the image's container, or because its
address always leads to the same image. The records are only hints: an image is taken from the store if it has the recorded
digest, and fetched otherwise.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from pelagos_contract import disk
from pelagos_pipelines.fetching import Validators
from pelagos_pipelines.storage import StorageError
from pelagos_pipelines.storage.buckets import Bucket

FILE = "fetched.json"
"""File in a store with the records of the source's images, by the digest of their keys."""
_SCHEMA = 1
_LONGEST = 500


class Seen(NamedTuple):
    """A fetched image: its validators from the server, and its digest."""

    etag: str
    modified: str
    state: str
    sha256: str
    size: int

    @property
    def validators(self) -> Validators:
        """The validators for a conditional request."""
        return Validators(self.etag, self.modified, self.size)


class Kept:
    """The kept images of one source. ``folder`` has FILE, and the blobs unless there is a ``bucket``; None keeps nothing.

    ``store`` is the URI or folder of the whole store; "" without one.
    """

    def __init__(self, folder: Path | None = None, bucket: Bucket | None = None, store: str = "") -> None:
        """Read the records; a damaged file counts as empty."""
        self.store = store
        self._folder, self._bucket = folder, bucket
        self._known = _read(folder / FILE) if folder is not None else {}
        self._noted: dict[str, tuple[str, str, str, str]] = {}
        self._there: frozenset[str] | None = None
        self.reused = 0

    def find(self, key: str, state: str = "") -> Seen | None:
        """The record of the image ``key``, if the store has it and ``state`` is unchanged; else None."""
        seen = self._known.get(_hashed(key))
        return seen if seen is not None and seen.state == state[:_LONGEST] and self._holds(seen) else None

    def bring(self, seen: Seen, target: Path) -> bool:
        """Put the image at ``target``; False when the store no longer has it."""
        path = _path(seen.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self._bucket is not None:
                self._bucket.download(path, target, sha256=seen.sha256)
            elif self._folder is None or not _copied(self._folder / path, target, seen.sha256):
                return False
        except (FileNotFoundError, StorageError):
            return False
        self.reused += 1
        return True

    def note(self, key: str, path: str, validators: Validators = Validators(), state: str = "") -> None:  # noqa: B008 - frozen
        """Record that the image ``key`` is ``path`` among the files of the source."""
        # Headers of servers are untrusted: keep no more than is needed to compare them.
        self._noted[_hashed(key)] = path, validators.etag[:_LONGEST], validators.modified[:_LONGEST], state[:_LONGEST]

    def write(self, digests: Mapping[str, tuple[str, int]]) -> None:
        """Write the records after the version was stored; ``digests`` has SHA-256 and size of files that it stores unchanged."""
        if self._folder is None or not self._noted:
            return
        rows = {
            key: [etag, modified, state, *digests[path]]
            for key, (path, etag, modified, state) in self._noted.items()
            if path in digests
        }
        disk.write_atomically(self._folder / FILE, orjson.dumps({"schema": _SCHEMA, "images": rows}), parents=True)

    def _holds(self, seen: Seen) -> bool:
        if self._bucket is not None:
            if self._there is None:
                self._there = frozenset(each.path for each in self._bucket.list("blobs"))
            return _path(seen.sha256) in self._there
        with suppress(OSError):
            return self._folder is not None and (self._folder / _path(seen.sha256)).stat().st_size == seen.size
        return False


def _hashed(key: str) -> str:
    # Hashed, since URLs can be long and contain signatures.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _path(sha256: str) -> str:
    """The path of a blob in a store."""
    return f"blobs/{sha256[:2]}/{sha256[2:]}"


def _copied(blob: Path, target: Path, sha256: str) -> bool:
    shutil.copyfile(blob, target)
    with target.open("rb") as file:
        is_same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    if not is_same:
        target.unlink()
    return is_same


def _read(file: Path) -> dict[str, Seen]:
    try:
        found = orjson.loads(file.read_bytes())
        if found["schema"] != _SCHEMA:
            return {}
        known = {str(key): Seen(*row) for key, row in found["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    texts = (all(isinstance(text, str) for text in each[:4]) and isinstance(each.size, int) for each in known.values())
    return (
        known if all(texts) and all(len(each.sha256) == 64 and each.sha256.isalnum() for each in known.values()) else {}
    )
