"""File locks between processes, held by one task of one process at a time. Called by triton_local.

The kernel releases a lock when its process ends, however it ended, so there are no stale locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from time import monotonic
from typing import TYPE_CHECKING

from pelagos.ports.errors import OutageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_PATIENCE = 60.0
_POLL = 0.05


@contextlib.asynccontextmanager
async def held(system: str, path: Path) -> AsyncIterator[None]:
    """Wait for the lock and hold it. Raises OutageError when another process does not release it within a minute."""
    deadline = monotonic() + _PATIENCE
    while (descriptor := _take(path)) is None:
        if monotonic() > deadline:
            raise OutageError(system, f"{path} is held by another process; is a second operator running?")
        await asyncio.sleep(_POLL)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock if nobody else does; yields whether we hold it."""
    descriptor = _take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take(path: Path) -> int | None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed the file between our open and lock: then our lock is on a file that nobody else will
        # ever open.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
