"""Processor time of this process and its machine, memory, and the energy counters of processors (RAPL). Called by the meter."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from pathlib import Path

_MICROJOULES = 1e6
_NOT_BUSY = (3, 4)
"""Columns of /proc/stat that are not busy: idle and iowait."""
_COUNTED = 8
"""Number of disjoint columns of /proc/stat; the columns of guests are included in those of users."""
MEGABYTE = 1e6


def used_seconds() -> float:
    """Processor seconds of this process and of its ended children."""
    parts = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


@dataclass(frozen=True)
class Machine:
    """The machine of this process; ``proc`` and ``powercap`` are the folders with Linux's figures."""

    proc: Path = Path("/proc")
    powercap: Path = Path("/sys/class/powercap")

    def times(self) -> tuple[float, float] | None:
        """Seconds of all cores together since the start: busy, and in total. None if unknown."""
        try:
            line = (self.proc / "stat").read_text(encoding="ascii").split("\n", 1)[0]
            ticks = [int(each) for each in line.split()[1 : 1 + _COUNTED]]
        except (OSError, ValueError):
            return None
        if not line.startswith("cpu ") or len(ticks) <= max(_NOT_BUSY):
            return None
        unit = os.sysconf("SC_CLK_TCK")
        idle = sum(ticks[column] for column in _NOT_BUSY)
        return (sum(ticks) - idle) / unit, sum(ticks) / unit

    def memory(self) -> tuple[float, float] | None:
        """Bytes of memory in use, and in total. None if unknown."""
        try:
            rows = (line.split() for line in (self.proc / "meminfo").read_text(encoding="ascii").splitlines())
            known = {row[0].rstrip(":"): float(row[1]) * 1024 for row in rows if len(row) > 1}
            return known["MemTotal"] - known["MemAvailable"], known["MemTotal"]
        except (OSError, ValueError, KeyError):
            return None

    def counters(self) -> dict[str, tuple[float, float]] | None:
        """Joules by energy counter, with the amount at which each wraps around. None without counters, or if any is unreadable.

        Counters are of packages and of memory beside them; parts of a package are included in its own.
        """
        found = {}
        try:
            for zone in sorted(self.powercap.glob("intel-rapl:*")):
                name = (zone / "name").read_text(encoding="ascii").strip()
                if not (name.startswith("package") or name == "dram"):
                    continue
                energy, most = (
                    int((zone / file).read_text(encoding="ascii")) / _MICROJOULES
                    for file in ("energy_uj", "max_energy_range_uj")
                )
                found[zone.name] = (energy, most)
        except (OSError, ValueError):  # since Linux 5.10 usually readable by root only
            return None
        return found if any(":" not in name.removeprefix("intel-rapl:") for name in found) else None


@dataclass
class Rapl:
    """Joules of a machine's processors since creation, from counters that wrap around, so it must be read often enough."""

    machine: Machine
    joules: float = 0.0
    _last: dict[str, tuple[float, float]] | None = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.machine.counters()

    @property
    def is_readable(self) -> bool:
        """Whether the sum is valid to this point."""
        return self._last is not None

    def look(self) -> None:
        """Add the energy since the last call. After a failed read, the sum stays unknown."""
        now = self.machine.counters()
        if self._last is None or now is None or now.keys() != self._last.keys():
            self._last = None
            return
        for name, (energy, most) in now.items():
            used = energy - self._last[name][0]
            self.joules += used if used >= 0 else used + most
        self._last = now
