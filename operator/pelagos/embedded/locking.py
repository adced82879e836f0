"""The lock on a home folder, which shows whether a supervisor owns it. Cheap to import, for commands that only ask."""

from __future__ import annotations

import fcntl
from time import monotonic, sleep
from typing import TYPE_CHECKING, TextIO

from pelagos.embedded.failures import StartError

if TYPE_CHECKING:
    from pelagos.embedded.layout import Layout

_LOCK_SECONDS = 0.05


class AlreadyRunningError(StartError):
    """Another supervisor owns this home folder."""


def lock(layout: Layout, patience: float = 1.0) -> TextIO:
    """Become the only supervisor of this home folder, until the returned file is closed. Raises AlreadyRunningError.

    ``patience``: seconds to keep trying, because ``is_locked`` also holds the lock for a moment.
    """
    # The lock belongs to the open file, not to a process id written in it, so the system releases it with the process, however
    # that ends. Opened for append, since a process that does not get the lock must not truncate the holder's file.
    stream = layout.lock.open("a+")
    deadline = monotonic() + patience
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                stream.close()
                raise AlreadyRunningError(f"Pelagos already runs with its state in {layout.home}.") from None
            sleep(_LOCK_SECONDS)
        else:
            return stream


def is_locked(layout: Layout) -> bool:
    """Whether a supervisor owns this home folder."""
    try:
        lock(layout, patience=0).close()
    except AlreadyRunningError:
        return True
    except OSError:
        return False  # the folder does not exist, or is not ours
    return False
