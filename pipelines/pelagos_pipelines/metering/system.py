"""System figures of a training's machine, under MLflow's names for them. Called by the meter.

MLflow's own sampler needs a run that this process has opened; ours are opened by the operator, and written with a client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pelagos_pipelines.metering.processors import MEGABYTE, Machine

if TYPE_CHECKING:
    from pelagos_pipelines.metering.accelerators import Gpu

FIRST, SLOWER = 10.0, 60.0
"""Seconds between two of the first figures; later a sixtieth of the time passed: a day has some 350 of each."""


class Usage:
    """The figures for one process; those of processors are means since the previous figures."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._times = machine.times()
        self._next = 0.0

    def due(self, seconds: float, gpus: Sequence[Gpu]) -> dict[str, float]:
        """The figures at ``seconds`` after the start of the process; empty if none are due, or nothing is known."""
        if seconds < self._next:
            return {}
        self._next = (
            seconds + max(FIRST, seconds / SLOWER) - 1
        )  # a second early, since callers ask every few seconds and not at exact times
        figures: dict[str, float] = {}
        before, now = self._times, self._machine.times()
        if before is not None and now is not None and now[1] > before[1]:
            figures["system/cpu_utilization_percentage"] = 100 * (now[0] - before[0]) / (now[1] - before[1])
        self._times = now
        if (memory := self._machine.memory()) is not None:
            figures["system/system_memory_usage_megabytes"] = memory[0] / MEGABYTE
            figures["system/system_memory_usage_percentage"] = 100 * memory[0] / memory[1]
        for index, gpu in enumerate(gpus):
            figures |= _of(gpu, f"system/gpu_{index}")
        return {name: round(value, 1) for name, value in figures.items()}


def _of(gpu: Gpu, prefix: str) -> dict[str, float]:
    known = {
        "utilization_percentage": gpu.load,
        "power_usage_watts": gpu.watts,
        "memory_usage_megabytes": None if gpu.used_bytes is None else gpu.used_bytes / MEGABYTE,
        "memory_usage_percentage": (
            100 * gpu.used_bytes / gpu.total_bytes if gpu.used_bytes is not None and gpu.total_bytes else None
        ),
    }
    return {f"{prefix}_{name}": value for name, value in known.items() if value is not None}
