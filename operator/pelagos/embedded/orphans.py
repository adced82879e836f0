"""Finds and ends the detached processes of an installation: pipeline runs, fork server, Triton. Used at shutdown.

They have the installation's home folder in their environment (``groups.INSTALLATION``), so this does not depend on any record.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from pelagos.engines.processes import groups, orderly

if TYPE_CHECKING:
    from collections.abc import Collection

_PROC = Path("/proc")
_POLL_SECONDS = 0.05
_KILL_SECONDS = 1.0


def find(home: Path) -> set[int]:
    """Ids of all processes that run for the installation, except ourselves and processes that people started."""
    wanted = f"{groups.INSTALLATION}={home}".encode()
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]
    carriers = {pid for pid in pids if _carries(pid, wanted)}
    # A program may give its children another environment, but they stay in their leader's session.
    sessions = {session for pid in carriers if (session := _session(pid)) is not None and session in carriers}
    return carriers | {pid for pid in pids if _session(pid) in sessions}


async def end(home: Path, grace: float, *, spare: Collection[int] = ()) -> int:
    """End these processes: SIGTERM, then SIGKILL after ``grace`` seconds. Returns their number. ``spare``: sessions to keep."""
    orderly.mark(home)
    ended: set[int] = set()
    for sign, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_SECONDS)):
        deadline = monotonic() + seconds
        signalled: set[int] = set()
        while left := {pid for pid in await asyncio.to_thread(find, home) if _session(pid) not in spare}:
            for pid in left - signalled:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            signalled |= left  # later rounds reach children that were forked during the listing
            if monotonic() >= deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        ended |= signalled
    return len(ended)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _carries(pid: int, wanted: bytes) -> bool:
    """Whether a process has this variable. False for zombies, which have no environment, and for other users' processes."""
    try:
        return wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
