"""Measures the memory and processor time of a sandbox's children while a block runs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from pelagos_pipelines.sandbox import Pool


def seconds_of(pool: Pool) -> float:
    """Processor seconds of the pool's interpreter and of all children that it ever had."""
    zygote = pool._zygote
    if zygote is None:
        return 0.0
    pid = zygote._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    stats = [Path(f"/proc/{one}/stat").read_text(encoding="ascii") for one in (pid, *children)]
    return sum(sum(map(int, stat.rpartition(")")[2].split()[11:15])) for stat in stats) / os.sysconf("SC_CLK_TCK")


class Watched:
    """The children of a pool, sampled every few milliseconds until the end of the block."""

    def __init__(self, pool: Pool) -> None:
        """Watch ``pool``, which need not have started yet."""
        self._pool = pool
        self._peak = 0
        self._used: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watched:
        """Start sampling."""
        self._look()
        self._before = dict(self._used)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take a last sample, and stop."""
        self._look()
        self._over.set()
        self._thread.join()

    def peak(self) -> int:
        """Bytes of memory of the child that ever had most."""
        return self._peak

    def seconds(self) -> float:
        """Processor seconds, within this block, of the child that used most."""
        return max((used - self._before.get(pid, 0.0) for pid, used in self._used.items()), default=0.0)

    def _watch(self) -> None:
        while not self._over.is_set():
            self._look()
            time.sleep(0.005)

    def _look(self) -> None:
        zygote = self._pool._zygote
        if zygote is None:
            return
        children = Path(f"/proc/{zygote._process.pid}/task/{zygote._process.pid}/children")
        try:
            for pid in map(int, children.read_text(encoding="ascii").split()):
                self._look_at(pid)
        except (OSError, IndexError):
            return

    def _look_at(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        self._peak = max(self._peak, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        self._used[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
