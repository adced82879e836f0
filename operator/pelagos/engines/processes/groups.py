"""Operating-system processes that outlive the operator: start one detached, know it again later, end it with all its children.

Used by the local engines. A process is known by its id together with its start time, so that a process id which the
system has given to somebody else is not mistaken for it. Linux only: reads ``/proc``.
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
"""Environment variable with the home folder of the supervisor that the operator runs under. Everything started here carries it
on, so that `pelagos down` finds it even when no operator is left to say what it started. Not PELAGOS_HOME: people export that
in their shells, and their editors must survive `pelagos down`."""
_PROC = Path("/proc")
_POLL_SECONDS = 0.05
_KILL_SECONDS = 5.0
"""After SIGKILL a process is gone at once, unless it sits in an uninterruptible system call; we do not wait longer for that."""


@dataclass(frozen=True)
class ProcessId:
    """``started`` is the start time in clock ticks since the machine booted (``/proc/<pid>/stat``, field 22)."""

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
        """Whether the process still runs: a zombie has ended, only its exit status is kept."""
        return self.state not in "ZX"


def identify(pid: int) -> ProcessId | None:
    """The identity of the process that now has this id; None when there is none, or only its zombie."""
    stat = _stat(pid)
    return ProcessId(pid=pid, started=stat.started) if stat is not None and stat.runs else None


def age(process: ProcessId) -> timedelta:
    """How long ago the process started, in a time that nobody sets. It must be of this boot of the machine."""
    return timedelta(seconds=max(clock.monotonic() - process.started / os.sysconf("SC_CLK_TCK"), 0.0))


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs. Collects the exit status of a child of ours that has ended."""
    if identify(process.pid) == process:
        return True
    with contextlib.suppress(OSError):
        os.waitpid(process.pid, os.WNOHANG)
    return False


def start_detached(command: Sequence[str | Path], *, environment: Mapping[str, str], output: Path) -> ProcessId:
    """Start a process in a session and process group of its own, which lives on when we end.

    Standard output and error are appended to ``output``, standard input is empty. Raises OSError when the program
    cannot be started.
    """
    arguments = [str(part) for part in command]
    # Of our own environment this alone is handed on: what else a program gets is for its starter to say, since there may be
    # secrets among it.
    inherited = {INSTALLATION: os.environ[INSTALLATION]} if INSTALLATION in os.environ else {}
    # Appended to, so that a log which is cut while the program writes goes on at its new end.
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
            # A signal to our group, as of a terminal, must not reach it; and all that it starts can be known by its session.
            setsid=True,
        )
    finally:
        os.close(descriptor)
    # A process that has ended already is a zombie now, and still has its start time.
    stat = _stat(pid)
    return ProcessId(pid=pid, started=stat.started if stat else 0)


def start_private(
    command: list[str | Path], libraries: Path | str, *, environment: dict[str, str], output: Path
) -> ProcessId:
    """Start a process detached, whose files are its owner's alone; see private_start."""
    launcher: list[str | Path] = [sys.executable, "-I", "-S", private_start.__file__, libraries]
    return start_detached([*launcher, *command], environment=environment, output=output)


def strays(argument: str) -> Iterator[ProcessId]:
    """Processes with this argument, or one below it: whoever started one may have died before it was written down."""
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

    Returns when none is left. No effect when the process id belongs to somebody else by now. Also ends a group whose
    leader has died before its children.
    """
    # Both rounds look anew whom there is, so that what is forked in between gets its signal, too.
    await _end(process, signal.SIGTERM, grace_seconds)
    await _end(process, signal.SIGKILL, _KILL_SECONDS)
    # For the exit status of a child of ours, whose zombie would stay as long as we live.
    await asyncio.to_thread(is_alive, process)


async def _end(process: ProcessId, sign: signal.Signals, seconds: float) -> None:
    deadline = monotonic() + seconds
    signalled: set[int] = set()
    while members := await asyncio.to_thread(_members, process):
        for pid in members - signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        signalled |= members  # later rounds reach children that were forked while we looked
        if monotonic() >= deadline:
            return
        await asyncio.sleep(_POLL_SECONDS)


def _members(leader: ProcessId) -> set[int]:
    """Running processes of the leader's session or group.

    The system does not reuse the id of a leader as long as its group or session has a member, so a process of this id
    with another start time proves that no member of ours is left.
    """
    stat = _stat(leader.pid)
    if stat is not None and stat.started != leader.started:
        return set()
    members = set()
    # All processes are looked through, since the kernel lists no members. A child that left the group is in the session still.
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
    # The second field is the program's name in parentheses, which may hold blanks and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], group=int(fields[2]), session=int(fields[3]), started=int(fields[19]))
