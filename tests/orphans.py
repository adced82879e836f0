"""Processes that tests started and that still run.

tests/conftest.py looks for them after all fixtures are torn down, tools/test.sh and .ci/run after all tests: ``python
tests/orphans.py MARK``, which kills them with ``--end``. Processes of a run carry a variable that they inherit, so nobody else's
processes are ever touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import control_groups

VARIABLE = "TESTS_OF_PELAGOS"
"""Holds the run's mark; pytest processes append their pid. Not PELAGOS_...: those are settings, and unknown ones are refused."""
PATIENCE = f"{VARIABLE}_PATIENCE"
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "/pelagos/upstream/kstatus/")
"""Python's helper processes and that of kstatus.py, which end with the process that uses them."""


@dataclass(frozen=True)
class Orphan:
    """A process that outlived its test."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.pid}: {self.command[:300]}"


def of(mark: str) -> list[Orphan]:
    """Processes that inherited this mark or one below it, except for this process and its ancestors."""
    wanted = f"{VARIABLE}={mark}".encode()
    own = _ancestry()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or belongs to another user
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            helps = any(helper in command for helper in _HELPERS)
            if int(folder.name) not in own and command and not helps and _has(variables, wanted):
                found.append(Orphan(int(folder.name), command))
    return found


def settled(mark: str) -> list[Orphan]:
    """The same, after processes that are ending had up to half a minute to do so; PATIENCE changes that."""
    deadline = time.monotonic() + float(os.environ.get(PATIENCE, "30"))
    while (found := of(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def end(processes: list[Orphan]) -> None:
    """Kill these processes."""
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGKILL)


def _has(variables: list[bytes], wanted: bytes) -> bool:
    """Whether a variable is this mark or one below it. Whole parts are compared: 12 is not below 1."""
    return any(each == wanted or each.startswith(wanted + b".") for each in variables)


def _ancestry() -> set[int]:
    pid, own = os.getpid(), set[int]()
    while pid:
        own.add(pid)
        with contextlib.suppress(OSError):
            # A program's name, in parentheses, may hold any character: state and parent follow the last one.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            continue
        break
    return own


def main(mark: str, *options: str) -> int:
    """Print the orphans; with ``--end`` kill them and remove control groups of killed nodes. Returns the exit code."""
    found = settled(mark)
    for each in found:
        print(f"left behind: process {each}")
    if "--end" in options:
        end(found)
        control_groups.remove_those_of_the_dead()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
