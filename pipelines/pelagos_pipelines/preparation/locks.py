"""Locks of a store in a folder: one preparation at a time, and no removal while somebody reads.

They belong to processes, and the system releases them when one dies, however that happens.
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
"""In a store: locked by those who read versions, and by who removes some."""
PATIENCE = 60.0
PARTIAL = ".partial-"
"""How the names of what is being made, or removed, begin: whoever holds the store next clears it away."""


class BusyError(Exception):
    """Somebody reads what should be removed. Trying again helps."""


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store for one preparation and clear away what a killed one left. Released by the system when a process dies."""
    (store / "versions").mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Under the lock alone: what carries the name of something partial may else be what another preparation is writing.
        for left in (*(store / "versions").glob(f"{PARTIAL}*"), *(store / "blobs").glob(f"*/{PARTIAL}*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


@contextmanager
def read_below(uri: str | Path) -> Iterator[None]:
    """Keep what is in the store of a version while it is read: a removal waits for its readers, and these for it.

    Readers that may not write to the store go without a lock where nobody has made one.
    """
    store = Path(uri).resolve().parent.parent
    with _locked(store / REMOVING, fcntl.LOCK_SH):  # a removal that waits comes before whoever begins to read
        readers = contextlib.ExitStack()
        readers.enter_context(_locked(store / READERS, fcntl.LOCK_SH))
    with readers:
        yield


@contextmanager
def unread(store: Path) -> Iterator[None]:
    """Keep readers out of the store. Raises BusyError when some are at work for longer than ``PATIENCE`` seconds."""
    until = time.monotonic() + PATIENCE
    with _locked(store / REMOVING, fcntl.LOCK_EX, until), _locked(store / READERS, fcntl.LOCK_EX, until):
        yield


@contextmanager
def _locked(file: Path, how: int, until: float = 0.0) -> Iterator[None]:
    """Hold a lock; an exclusive one until whose time others may hold it. Raises BusyError."""
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
