"""Processes that tests started and that still live. tests/conftest.py looks when all fixtures are gone, tools/test.sh and .ci/run
when all tests are: ``python tests/orphans.py MARK``, which ends them with ``--end``.

What belongs to a run is told by a variable that its processes inherit, so that nothing of anybody else is ever looked at.
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
"""Names the run; pytest processes append their own number. Not PELAGOS_...: those are settings, and a wrong one is refused."""
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "/pelagos/upstream/kstatus/")
"""Python's own and that of kstatus.py, which end with the process that they help."""


@dataclass(frozen=True)
class Orphan:
    """A process."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.pid}: {self.command[:300]}"


def of(mark: str) -> list[Orphan]:
    """Processes that inherited this mark or one below it; neither this process nor what it is a child of."""
    wanted = f"{VARIABLE}={mark}".encode()
    own = _ancestry()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            helps = any(helper in command for helper in _HELPERS)
            if int(folder.name) not in own and command and not helps and _has(variables, wanted):
                found.append(Orphan(int(folder.name), command))
    return found


def settled(mark: str, seconds: float = 30) -> list[Orphan]:
    """The same, after those that are ending had time to."""
    deadline = time.monotonic() + seconds
    while (found := of(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def end(processes: list[Orphan]) -> None:
    """Kill them."""
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGKILL)


def _has(variables: list[bytes], wanted: bytes) -> bool:
    """Whether the mark is that or one below it, as a whole: 12 is not below 1."""
    return any(each == wanted or each.startswith(wanted + b".") for each in variables)


def _ancestry() -> set[int]:
    pid, own = os.getpid(), set[int]()
    while pid:
        own.add(pid)
        with contextlib.suppress(OSError):
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            continue
        break
    return own


def main(mark: str, *options: str) -> int:
    """Say what is left; with ``--end`` end it, and remove control groups of killed nodes. Returns the exit code."""
    found = settled(mark)
    for each in found:
        print(f"left behind: process {each}")
    if "--end" in options:
        end(found)
        control_groups.remove_those_of_the_dead()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
