"""Records that an installation was shut down in order, by `pelagos down` or with its machine: its processes did not crash then.

A file in its home. Written by the process that shuts down; read by the local engines when they find their processes gone later.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

NAME = "ended"
WORDS = "it was stopped with the installation"


def mark(home: Path) -> None:
    """Record that everything that runs for the installation is being ended now."""
    with contextlib.suppress(OSError):  # A full disk must not prevent the shutdown.
        (home / NAME).touch(mode=0o600)


def has_ended(home: Path, started: datetime, gone: datetime | None = None) -> bool:
    """Whether a process that was started at ``started`` was ended in order; ``gone`` is when it ended, if that is known."""
    try:
        marked = (home / NAME).stat().st_mtime
    except OSError:
        return False
    return started.timestamp() <= marked and (gone is None or marked <= gone.timestamp())
