"""How many runs of a flow this machine has room for. Pure, except for reading the machine's size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.engines.kubernetes.quantities import quantity

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pelagos.ports.pipelines import RunRequest

GIBIBYTE = 1024**3
USUAL_MEMORY = 6 * GIBIBYTE
"""Assumed for a run that states no memory: a training of yolov8n with batches of 16 images of 640 pixels, on a CPU."""


@dataclass(frozen=True, order=True)
class Share:
    """A run's request: processor cores, GPUs, and memory in bytes."""

    cores: int = 0
    gpus: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Room:
    """Resources that the runs of a flow may use together: ``runs`` of them, ``cores``, and ``memory`` in bytes; 0 means no limit.

    A run that asks for more than there is gets the machine for itself; otherwise it would wait forever. GPUs are used by one run
    at a time, because nothing divides them between processes on one machine. ``has_gpus``: the machine has GPUs, which every run
    uses, even one that does not ask for any.
    """

    runs: int = 0
    cores: int = 0
    memory: int = 0
    has_gpus: bool = False

    def obstacle(self, flow: str, asked: Share, taken: Collection[Share]) -> str | None:
        """Why there is no room for ``asked`` in addition to ``taken``; None when there is."""
        if not taken:
            return None
        if self.runs and len(taken) >= self.runs:
            return f"of {flow}, {self.runs} at a time run on this machine"
        if self.has_gpus or (asked.gpus and any(each.gpus for each in taken)):
            return "another run uses the GPUs of this machine, which one run at a time may use"
        cores, memory = sum(each.cores for each in taken), sum(each.memory for each in taken)
        if self.cores and cores + asked.cores > self.cores:
            return (
                f"it asks for {_cores(asked.cores)}, and runs of {flow} use {cores} of the {self.cores} that they share on this"
                " machine"
            )
        if self.memory and memory + asked.memory > self.memory:
            return (
                f"it asks for {_gibibytes(asked.memory)} of memory, and runs of {flow} use {_gibibytes(memory)} of the"
                f" {_gibibytes(self.memory)} that they share on this machine"
            )
        return None

    def first(self, flow: str, queue: Sequence[Share], taken: Collection[Share]) -> int:
        """How many runs at the front of the queue may start now.

        None overtakes another: a run that needs many cores would otherwise wait forever behind a stream of small ones.
        """
        having = list(taken)
        for number, asked in enumerate(queue):
            if self.obstacle(flow, asked, having):
                return number
            having.append(asked)
        return len(queue)


def share(request: RunRequest) -> Share:
    """The share that a request asks for."""
    placement = request.resources.placement
    stated = quantity(placement.memory_limit or placement.memory)
    return Share(request.resources.cpu, placement.gpus, int(stated) if stated else USUAL_MEMORY)


def cores_of_this_machine() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_of_this_machine() -> int:
    """The machine's physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def has_gpus(devices: Path = Path("/dev")) -> bool:
    """Whether this machine has GPUs that a framework may find: NVIDIA's, through WSL, or AMD's. Steps inherit CUDA variables."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return False
    return any(path for pattern in ("nvidia[0-9]*", "dxg", "kfd") for path in devices.glob(pattern))


def _cores(number: int) -> str:
    return f"{number} core" if number == 1 else f"{number} cores"


def _gibibytes(number: int) -> str:
    return f"{number / GIBIBYTE:.3g} GiB"
