"""What stands beside a version for people, found where it is kept. For steps that show it elsewhere, such as in MLflow."""

from __future__ import annotations

from pathlib import Path

from pelagos_contract.augmentation import LARGEST_SHEET, SHEET, SHEET_BEGINS
from pelagos_contract.judgement import FOLDER, LARGEST_PAGE, PAGE, PAGE_BEGINS, PICTURES
from pelagos_pipelines import storage
from pelagos_pipelines.storage.buckets import Bucket


def find(uri: str, scratch: Path) -> list[Path]:
    """The report, its figures, and the sheet of the augmentation, as far as there are such that begin as ours do.

    They are on this machine, brought to ``scratch`` from object storage.

    Raises:
        StorageError, StorageRefusedError: see storage.errors.
    """
    wanted = [(PAGE, LARGEST_PAGE, PAGE_BEGINS.encode()), (SHEET, LARGEST_SHEET, SHEET_BEGINS)]
    wanted += [(f"{FOLDER}/{name}", LARGEST_SHEET, SHEET_BEGINS) for name in PICTURES]
    if storage.is_remote(uri):  # one request for all that is not there
        there = {found.path for found in Bucket(uri).list(FOLDER)}
        wanted = [one for one in wanted if one[0] in there]
    found = (_one(uri, scratch, name, largest, begins) for name, largest, begins in wanted)
    return [file for file in found if file is not None]


def _one(uri: str, scratch: Path, name: str, largest: int, begins: bytes) -> Path | None:
    try:
        return _found(uri, scratch, name, largest, begins)
    except OSError:  # It cannot be read, or there is no room for it: no training fails for want of a page.
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
    # Who can write to the store may put a pipe there, at which reading waits for ever.
    if not file.is_file() or file.stat().st_size > largest:
        return None
    with file.open("rb") as content:
        return file if content.read(len(begins)) == begins else None
