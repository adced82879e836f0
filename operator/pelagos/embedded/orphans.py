"""Finds and ends the detached processes of an installation: pipeline runs, fork server, Triton. Used when everything stops.

They carry the installation's home folder in their environment (``groups.INSTALLATION``), so no record has to be right.
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
    """Process ids of everything that runs for the installation, but for the supervisor and what people started themselves."""
    wanted = f"{groups.INSTALLATION}={home}".encode()
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]
    carriers = {pid for pid in pids if _carries(pid, wanted)}
    # A program may give its children another environment; they stay in the session that its leader was given.
    sessions = {session for pid in carriers if (session := _session(pid)) is not None and session in carriers}
    return carriers | {pid for pid in pids if _session(pid) in sessions}


async def end(home: Path, grace: float, *, spare: Collection[int] = ()) -> int:
    """End them: SIGTERM, SIGKILL after ``grace`` seconds. Returns how many there were. ``spare``: sessions to leave alone."""
    orderly.mark(home)
    ended: set[int] = set()
    for sign, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_SECONDS)):
        deadline = monotonic() + seconds
        signalled: set[int] = set()
        while left := {pid for pid in await asyncio.to_thread(find, home) if _session(pid) not in spare}:
            for pid in left - signalled:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            signalled |= left  # later rounds reach what was forked while we looked
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
    """Zombies have no environment any more; processes of others cannot be read."""
    try:
        return wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
