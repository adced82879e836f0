"""That an installation was ended in order, by `pelagos down` or with its machine: what ran then has not died. A file in its home.

Written by whoever ends it; read by the local engines when the next operator finds their processes gone.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

NAME = "ended"
WORDS = "it was ended with the installation"


def mark(home: Path) -> None:
    """Everything that runs for the installation is ended now."""
    with contextlib.suppress(OSError):  # A full disk must not keep anything running.
        (home / NAME).touch(mode=0o600)


def has_ended(home: Path, started: datetime, gone: datetime | None = None) -> bool:
    """Whether what was started then, and is gone, was ended in order; ``gone`` is when, as far as that is known."""
    try:
        marked = (home / NAME).stat().st_mtime
    except OSError:
        return False
    return started.timestamp() <= marked and (gone is None or marked <= gone.timestamp())
