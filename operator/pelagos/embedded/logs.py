"""Keeps the logs of the parts from filling the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

ROTATE_BYTES = 10 * 2**20
"""A log larger than this is rotated when its part starts."""
LIMIT_BYTES = 50 * 2**20
"""A log larger than this is rotated while its part runs."""
_TAIL_BYTES = 64 * 1024
_LINE_LENGTH = 300
"""Most characters shown of a line. Structured logs have whole stack traces in one line, whose beginning is enough."""


def rotate(log: Path) -> None:
    """Rename a large log to ``<name>.1``, replacing the previous one."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > ROTATE_BYTES:
            log.replace(_old(log))


def limit(log: Path) -> None:
    """Rotate a log that a running part appends to: copy it, then truncate it. Lines written in between are lost."""
    # On a full disk the copy fails; truncating the log is even more necessary then.
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LIMIT_BYTES:
            with contextlib.suppress(OSError):
                shutil.copyfile(log, _old(log))
            os.truncate(log, 0)


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log, long ones shortened; empty when there is no log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            found = stream.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
    return [line if len(line) <= _LINE_LENGTH else f"{line[:_LINE_LENGTH]} ..." for line in found]


def _old(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")
