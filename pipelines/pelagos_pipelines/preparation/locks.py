"""Locks for a store in a folder: one preparation at a time, and no removal while anyone reads.

They belong to processes, and the system releases them when a process dies, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READERS, REMOVING = ".readers", ".removing"
"""Lock files in a store: readers of versions share the first; a removal holds both alone."""
PATIENCE = 60.0
PARTIAL = ".partial-"
"""The prefix of names of files that are being written or removed. The store's next holder removes what is left of them."""


class BusyError(Exception):
    """The store is being read, so nothing can be removed. Trying again helps."""


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store for one preparation, and remove partial files of killed ones. Released when the process dies."""
    (store / "versions").mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Only under the lock: without it, partial files may be ones that another preparation is writing.
        for left in (*(store / "versions").glob(f"{PARTIAL}*"), *(store / "blobs").glob(f"*/{PARTIAL}*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


@contextmanager
def read_below(uri: str | Path) -> Iterator[None]:
    """Keep the contents of a version's store while it is read: a removal waits for readers, and readers for a removal.

    Readers that may not write to the store go without a lock if the lock file does not exist.
    """
    store = Path(uri).resolve().parent.parent
    with _locked(store / REMOVING, fcntl.LOCK_SH):  # so that a waiting removal goes before readers that begin later
        readers = contextlib.ExitStack()
        readers.enter_context(_locked(store / READERS, fcntl.LOCK_SH))
    with readers:
        yield


@contextmanager
def unread(store: Path) -> Iterator[None]:
    """Keep readers out of the store. Raises BusyError when it is still being read after ``PATIENCE`` seconds."""
    until = time.monotonic() + PATIENCE
    with _locked(store / REMOVING, fcntl.LOCK_EX, until), _locked(store / READERS, fcntl.LOCK_EX, until):
        yield


@contextmanager
def _locked(file: Path, how: int, until: float = 0.0) -> Iterator[None]:
    """Hold a lock during the block. An exclusive one is tried until the monotonic time ``until``, then BusyError is raised."""
    descriptor = None
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with contextlib.suppress(OSError):
            descriptor = os.open(file, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            break
    try:
        while descriptor is not None:
            try:
                fcntl.flock(descriptor, how | (fcntl.LOCK_NB if how == fcntl.LOCK_EX else 0))
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise BusyError(f"versions of {file.parent} are being read; tried again later") from None
                time.sleep(0.02)
        if descriptor is None and how == fcntl.LOCK_EX:
            raise BusyError(f"{file} cannot be opened, so that nobody can tell who reads versions; remove it")
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
