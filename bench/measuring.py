"""Processor time, memory and wall time of other processes, read from /proc. Used by all measurements, and independent of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 20.0

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Usage:
    """Wall time and processor time in seconds. ``cpu`` is user and system time including all children."""

    wall: float
    cpu: float


class MeasurementError(Exception):
    """A measurement failed; the message says which, and where the log is."""


def alternate(
    candidates: Mapping[str, Callable[[], Sample]], repeats: int, say: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Run the candidates in turns (A, B, A, B), so that a machine that slows down affects all of them alike."""
    found: dict[str, list[Sample]] = {name: [] for name in candidates}
    for repeat in range(1, repeats + 1):
        for name, measure in candidates.items():
            say(f"{name}, {repeat} of {repeats}")
            found[name].append(measure())
    return found


def printed(command: Sequence[object], variables: Mapping[str, str] | None = None, what: str = "") -> Any:
    """Run a program, and return the JSON of the last line that it printed. ``variables`` are added to its environment.

    Raises MeasurementError with ``what`` and the end of its log when it fails.
    """
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"{what}:\n{done.stderr[-2000:]}" if what else done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def tree(root: int) -> list[int]:
    """The ids of the process and of all its live descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(root: int, *, alone: bool = False) -> float:
    """User and system time of the process and its descendants in seconds, including those that have ended and were waited for.

    ``alone`` excludes all descendants.
    """
    last = 13 if alone else 15
    return sum(sum(map(int, fields[11:last])) for pid in _chosen(root, alone) if (fields := _stat(pid))) / _TICKS


def resident_bytes(root: int, *, alone: bool = False) -> int:
    """Resident memory of the process and, unless ``alone``, its descendants, in bytes; shared pages count for each process."""
    return sum(int(fields[21]) for pid in _chosen(root, alone) if (fields := _stat(pid))) * _PAGE


def pin(root: int, cores: set[int]) -> None:
    """Pin the process and its descendants, with all their current and future threads, to these cores."""
    for pid in tree(root):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)


def run(
    command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None, *, ends_with: int = 0
) -> Usage:
    """Run a command to its end, and return its usage. Raises MeasurementError with the end of its log when it fails."""
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
        )
        # wait4 reports exactly what this child used, including the children that it waited for.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    if process.returncode != ends_with:
        raise MeasurementError(f"{command[0]} ended with {process.returncode}. The end of {log}:\n{_end_of(log)}")
    return Usage(wall, used.ru_utime + used.ru_stime)


@contextlib.contextmanager
def running(
    command: Sequence[object], log: Path, environment: Mapping[str, str], cores: set[int]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on these cores until the context ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
        )
    os.sched_setaffinity(process.pid, cores)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float, log: Path | None = None, *, pause: float = 0.05
) -> None:
    """Check every ``pause`` seconds until the condition holds. Raises MeasurementError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            end = f" The end of {log}:\n{_end_of(log)}" if log else ""
            raise MeasurementError(f"not true after {seconds:.0f} s: {what}.{end}")
        time.sleep(pause)


def _chosen(root: int, alone: bool) -> list[int]:
    return [root] if alone else tree(root)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the name: state, parent, ...; None when the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else "(no log)"
