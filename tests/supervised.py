"""Helpers for tests of supervision: parts that run ``embedded/fake_server.py``, shortened times, and ways to wait."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from pelagos.embedded import addresses
from pelagos.embedded.child import Timing
from pelagos.embedded.layout import Layout
from pelagos.embedded.parts import ManagedProcess
from pelagos.engines.processes import groups

QUICK = Timing(
    first_pause=0.2, longest_pause=0.8, healthy=60, starting_period=0.02, period=0.1, timeout=0.3, misses=3, kill=2
)
FAKE = Path(__file__).parent / "embedded" / "fake_server.py"


class FakeParts:
    """Creates parts that run the fake server, and reads what they wrote."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, name: str, *behaviours: str, start_seconds: float = 60) -> ManagedProcess:
        # The search starts at another place for each name: the servers do not listen yet, so the same port would look free again.
        port = addresses.choose(self.layout.home / name, [name], {})[name]
        url = f"http://{addresses.HOST}:{port}"
        return ManagedProcess(
            name=name,
            command=(sys.executable, "-S", str(FAKE), str(port), f"pid={self._file(name, 'pid')}", *behaviours),
            environment={**os.environ, groups.INSTALLATION: str(self.layout.home)},
            folder=self.layout.home,
            ports=(port,),
            url=url,
            ready=f"{url}/ready",
            alive=f"{url}/alive",
            start_seconds=start_seconds,
        )

    def worker_file(self, name: str) -> str:
        """The argument of the behaviour ``worker``."""
        return f"worker={self._file(name, 'worker')}"

    def pids(self, name: str, what: str = "pid") -> list[int]:
        """Process ids of all starts, in order."""
        file = self._file(name, what)
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def _file(self, name: str, what: str) -> Path:
        return self.layout.home / f"{name}.{what}"


def is_running(pid: int) -> bool:
    """Whether this process exists and is not a zombie."""
    return groups.identify(pid) is not None


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until the condition holds; fails the test after ``seconds``."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"not true within {seconds} s: {what}"
        await asyncio.sleep(0.02)
