"""Finds the report and pictures that are kept beside a version. For steps that show them elsewhere, such as in MLflow."""

from __future__ import annotations

from pathlib import Path

from pelagos_contract.augmentation import LARGEST_SHEET, SHEET, SHEET_BEGINS
from pelagos_contract.judgement import FOLDER, LARGEST_PAGE, PAGE, PAGE_BEGINS, PICTURES
from pelagos_pipelines import storage
from pelagos_pipelines.storage.buckets import Bucket


def find(uri: str, scratch: Path) -> list[Path]:
    """The local files of the report, its figures, and the sheet of the augmentation. Files that do not begin as ours are ignored.

    Files on object storage are downloaded to ``scratch``.

    Raises:
        StorageError, StorageRefusedError: see storage.errors.
    """
    wanted = [(PAGE, LARGEST_PAGE, PAGE_BEGINS.encode()), (SHEET, LARGEST_SHEET, SHEET_BEGINS)]
    wanted += [(f"{FOLDER}/{name}", LARGEST_SHEET, SHEET_BEGINS) for name in PICTURES]
    if storage.is_remote(uri):  # one listing instead of a request for each absent file
        there = {found.path for found in Bucket(uri).list(FOLDER)}
        wanted = [one for one in wanted if one[0] in there]
    found = (_one(uri, scratch, name, largest, begins) for name, largest, begins in wanted)
    return [file for file in found if file is not None]


def _one(uri: str, scratch: Path, name: str, largest: int, begins: bytes) -> Path | None:
    try:
        return _found(uri, scratch, name, largest, begins)
    except OSError:  # it cannot be read or stored; no training should fail for a missing page
        return None


def _found(uri: str, scratch: Path, name: str, largest: int, begins: bytes) -> Path | None:
    file = Path(uri, name)
    if storage.is_remote(uri):
        bucket, file = Bucket(uri), scratch / name
        there = bucket.find(name)
        if there is None or there.size > largest:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        bucket.download(name, file)
    # Anyone who can write to the store may put a pipe there, and reading from it would block forever.
    if not file.is_file() or file.stat().st_size > largest:
        return None
    with file.open("rb") as content:
        return file if content.read(len(begins)) == begins else None
