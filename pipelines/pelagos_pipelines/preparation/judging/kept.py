"""The report of a version, found where the version is kept. For steps that show it to people elsewhere, such as in MLflow."""

from __future__ import annotations

from pathlib import Path

from pelagos_contract.judgement import LARGEST_PAGE, PAGE, PAGE_BEGINS
from pelagos_pipelines import storage
from pelagos_pipelines.storage.buckets import Bucket


def find(uri: str, scratch: Path) -> Path | None:
    """The page on this machine, brought to ``scratch`` from object storage; None when there is none that begins as ours do.

    Raises:
        StorageError, StorageRefusedError: see storage.errors.
    """
    try:
        return _find(uri, scratch)
    except OSError:  # It cannot be read, or there is no room for it: no training fails for want of a page.
        return None


def _find(uri: str, scratch: Path) -> Path | None:
    file = Path(uri, PAGE)
    if storage.is_remote(uri):
        bucket, file = Bucket(uri), scratch / PAGE
        there = bucket.find(PAGE)
        if there is None or there.size > LARGEST_PAGE:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        bucket.download(PAGE, file)
    begins = PAGE_BEGINS.encode()
    # Who can write to the store may put a pipe there, at which reading waits for ever.
    if not file.is_file() or file.stat().st_size > LARGEST_PAGE:
        return None
    with file.open("rb") as content:
        return file if content.read(len(begins)) == begins else None
