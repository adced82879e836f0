"""Compares two dataset versions, in folders or object storage.

``python -m pelagos_pipelines.preparation.comparing FROM TO [PICTURE]`` is run by `pelagos dataset diff`. It prints one JSON
object: a differences.Difference as a document, or ``error``. With PICTURE, the path of a PNG file, it also draws the differences.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from pelagos_contract.disk import FullError
from pelagos_contract.failures import RefusedError
from pelagos_pipelines import storage
from pelagos_pipelines.preparation import blobs, difference_sheet, differences, locks, published, versions
from pelagos_pipelines.preparation.differences import Side
from pelagos_pipelines.storage import StorageError, StorageRefusedError


def compare(was: str, now: str, picture: Path | None = None) -> dict[str, Any]:
    """The differences between the versions at two uris, as a JSON document.

    Raises:
        RefusedError: DATASET_NOT_READABLE.
        StorageError, StorageRefusedError: see storage.errors.
        OSError, FullError: the picture cannot be written; no part of it remains.
    """
    with tempfile.TemporaryDirectory(prefix="pelagos-diff-") as scratch, ExitStack() as read:
        for uri in dict.fromkeys((was, now)):
            if not storage.is_remote(uri):
                read.enter_context(locks.read_below(uri))
        found = differences.between(*(_side(uri, Path(scratch)) for uri in (was, now)))
        if picture is not None:
            difference_sheet.draw(found, _blob, picture)
        return found.document()


def _side(uri: str, scratch: Path) -> Side:
    """A version without its images: only the few that are drawn are fetched."""
    folder = published.download(uri, scratch, ()) if storage.is_remote(uri) else Path(uri)
    version = versions.read(folder)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())  # `versions.read` has checked its digest
    listed = folder / versions.EXCLUDED
    lines = map(orjson.loads, listed.read_bytes().splitlines() if listed.exists() else ())
    return Side(
        version=f"sha256:{version.digest}",
        uri=uri,
        collection=version.collection,
        digests={path: blob.parent.name + blob.name for path, blob in version.blobs.items()},
        recipe=_recipe(manifest),
        excluded={str(line["path"]): str(line["reason"]) for line in lines},
    )


def _recipe(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe, with the taxa of classes, which a register of names may change while the rest stays the same."""
    found, taxa = manifest["recipe"], manifest.get("taxa")
    return (found if isinstance(found, dict) else {}) | ({"taxa": taxa} if isinstance(taxa, dict) else {})


def _blob(side: Side, sha256: str) -> bytes:
    """The content of an image, checked against its digest. Raises OSError, RefusedError, StorageError or ChangedError."""
    if storage.is_remote(side.uri):
        return published.image(side.uri, sha256)
    return blobs.content(Path(side.uri).resolve().parent.parent / "blobs", sha256)


def main(arguments: Sequence[str]) -> int:
    """Compare the versions named on the command line, and print the result. Returns the exit code."""
    was, now, *picture = arguments
    answer: dict[str, Any]
    try:
        answer = compare(was, now, Path(picture[0]) if picture else None)
    except RefusedError as error:
        answer = {"error": error.failure.message}
    except (StorageError, StorageRefusedError, OSError, FullError) as error:
        answer = {"error": str(error)}
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    return "error" in answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
