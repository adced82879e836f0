"""Operating-system processes that outlive the operator: start one detached, recognize it later, end it with all its children.

Used by the local engines. A process is identified by its id together with its start time, so that an id which the system has
reused is not mistaken for it. Linux only: reads ``/proc``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from pelagos.engines.processes import private_start
from pelagos.ports import clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INSTALLATION = "PELAGOS_SUPERVISED_HOME"
"""Environment variable with the home folder of the supervisor that the operator runs under. Everything started here inherits it,
so that `pelagos down` finds it even if no operator is left that knows of it. Not PELAGOS_HOME: people export that in
their shells, and their editors must survive `pelagos down`."""
_PROC = Path("/proc")
_POLL_SECONDS = 0.05
_KILL_SECONDS = 5.0
"""How long to wait after SIGKILL. A killed process ends at once, unless it is in an uninterruptible system call."""


@dataclass(frozen=True)
class ProcessId:
    """The identity of a process. ``started`` is in clock ticks since the boot (``/proc/<pid>/stat``, field 22)."""

    pid: int
    started: int


@dataclass(frozen=True)
class _Stat:
    state: str
    group: int
    session: int
    started: int

    @property
    def runs(self) -> bool:
        """Whether the process still runs. A zombie has ended; only its exit status is kept."""
        return self.state not in "ZX"


def identify(pid: int) -> ProcessId | None:
    """The identity of the process that has this id now; None when there is none, or only a zombie."""
    stat = _stat(pid)
    return ProcessId(pid=pid, started=stat.started) if stat is not None and stat.runs else None


def age(process: ProcessId) -> timedelta:
    """How long ago the process started, by a monotonic clock. It must have started since the last boot."""
    return timedelta(seconds=max(clock.monotonic() - process.started / os.sysconf("SC_CLK_TCK"), 0.0))


def is_alive(process: ProcessId) -> bool:
    """Whether exactly this process still runs. Reaps it if it is a child of ours that has ended."""
    if identify(process.pid) == process:
        return True
    with contextlib.suppress(OSError):
        os.waitpid(process.pid, os.WNOHANG)
    return False


def start_detached(command: Sequence[str | Path], *, environment: Mapping[str, str], output: Path) -> ProcessId:
    """Start a process in its own session and process group, which survives us.

    Standard output and error are appended to ``output``, standard input is empty. Raises OSError when the program cannot be
    started.
    """
    arguments = [str(part) for part in command]
    # Inherit only this variable: our environment may contain secrets, so the caller lists everything else explicitly.
    inherited = {INSTALLATION: os.environ[INSTALLATION]} if INSTALLATION in os.environ else {}
    # O_APPEND, so that a log which is truncated while the program writes continues at its new end.
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            {**environment, **inherited},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, descriptor, 1),
                (os.POSIX_SPAWN_DUP2, descriptor, 2),
            ],
            # A signal to our group, such as from a terminal, must not reach it; and its descendants are found by their session.
            setsid=True,
        )
    finally:
        os.close(descriptor)
    # Even if the process has ended already, its zombie still has the start time.
    stat = _stat(pid)
    return ProcessId(pid=pid, started=stat.started if stat else 0)


def start_private(
    command: list[str | Path], libraries: Path | str, *, environment: dict[str, str], output: Path
) -> ProcessId:
    """Start a detached process whose files only its owner can access; see private_start."""
    launcher: list[str | Path] = [sys.executable, "-I", "-S", private_start.__file__, libraries]
    return start_detached([*launcher, *command], environment=environment, output=output)


def strays(argument: str) -> Iterator[ProcessId]:
    """Processes with this argument, or a path below it. For those whose starter died before it could record them."""
    wanted = os.fsencode(argument)
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if any(found == wanted or found.startswith(wanted + b"/") for found in arguments):
                process = identify(int(entry.name))
                if process is not None and process.pid != os.getpid():
                    yield process


async def kill_group(process: ProcessId, grace_seconds: float) -> None:
    """End the process with its session and process group: SIGTERM, then SIGKILL for those left after ``grace_seconds``.

    Returns when none is left. No effect when the id has been reused by another process. Also ends a group whose leader died
    before its children.
    """
    # Both rounds list the members again, so that children forked in between get the signal, too.
    await _end(process, signal.SIGTERM, grace_seconds)
    await _end(process, signal.SIGKILL, _KILL_SECONDS)
    # Reap the process if it is our child: its zombie would stay as long as we live.
    await asyncio.to_thread(is_alive, process)


async def _end(process: ProcessId, sign: signal.Signals, seconds: float) -> None:
    deadline = monotonic() + seconds
    signalled: set[int] = set()
    while members := await asyncio.to_thread(_members, process):
        for pid in members - signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        signalled |= members  # later rounds reach children that were forked during the listing
        if monotonic() >= deadline:
            return
        await asyncio.sleep(_POLL_SECONDS)


def _members(leader: ProcessId) -> set[int]:
    """Running processes of the leader's session or group.

    The system does not reuse a leader's id while its group or session has a member, so a process with this id and another start
    time proves that no member is left.
    """
    stat = _stat(leader.pid)
    if stat is not None and stat.started != leader.started:
        return set()
    members = set()
    # The kernel has no list of members, so go through all processes. A child that left the group is still in the session.
    for pid in (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()):
        stat = _stat(pid)
        if stat is not None and stat.runs and leader.pid in (pid, stat.session, stat.group):
            members.add(pid)
    return members


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, which may itself contain blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], group=int(fields[2]), session=int(fields[3]), started=int(fields[19]))
