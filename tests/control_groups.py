"""Control groups of the nodes that tests/cluster creates: unlike processes, they stay until they are removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

PREFIX = "pelagos-node-"
"""How their names begin; the pid of the test process follows."""
_ROOT = Path("/sys/fs/cgroup")
_SECONDS = 60.0


def hierarchies() -> list[Path]:
    """The mounted hierarchies: those of version 1 with the empty one of version 2 beside them, or the one of version 2."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [path for path in sorted(_ROOT.glob("*")) if (path / "cgroup.procs").exists()]


def remove(group: Path) -> None:
    """Remove a group and its subgroups as soon as their processes have ended."""
    # From the bottom: a group can be removed only when it has neither processes nor groups in it.
    for path, _, _ in os.walk(group, topdown=False):
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            try:
                Path(path).rmdir()
            except FileNotFoundError:
                break
            except OSError:  # its processes are still dying
                time.sleep(0.05)
            else:
                break


def remove_those_of_the_dead() -> None:
    """Remove groups of test processes that were killed and could not clean up."""
    for hierarchy in hierarchies():
        for group in hierarchy.glob(f"{PREFIX}*"):
            if not Path("/proc", group.name.removeprefix(PREFIX).partition("-")[0]).exists():
                remove(group)
