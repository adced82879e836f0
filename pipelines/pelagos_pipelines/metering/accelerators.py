"""The GPUs of this process by NVIDIA's management library (NVML): energy, power, memory, load. Called by the meter.

Values that the library does not report are None, never 0.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

IN_A_POD = "KUBERNETES_SERVICE_HOST"
"""Environment variable of every container on Kubernetes, where visible GPUs are allocated to the pod exclusively."""
_UUID = "GPU-"
_DRIVER = "libnvidia-ml.so.1"
"""The library that pynvml loads."""


@dataclass(frozen=True)
class Gpu:
    """The present state of a GPU: ``joules`` since its driver was loaded, ``watts``, bytes, ``load`` in percent.

    ``processes`` are the ids of the processes that compute on it.
    """

    uuid: str
    joules: float | None = None
    watts: float | None = None
    used_bytes: float | None = None
    total_bytes: float | None = None
    load: float | None = None
    processes: frozenset[int] = frozenset()


class Nvml:
    """A client of the library; a machine without it, or without a driver, has no GPUs."""

    def __init__(self, library: Any = None) -> None:
        """``library`` has the interface of `pynvml`; None: pynvml itself, if it can be imported."""
        self._library = library
        if library is None:
            try:
                # The driver's library first: importing pynvml takes longer than all else that a step without GPUs measures.
                ctypes.CDLL(_DRIVER)
                self._library = import_module("pynvml")
            except (ImportError, OSError):
                return
        try:
            self._library.nvmlInit()
        except Exception:  # each failure has its own class; most machines have no driver
            self._library = None

    def gpus(self) -> list[Gpu]:
        """The present state of all GPUs that this process can see."""
        library = self._library
        if library is None:
            return []
        try:
            count = library.nvmlDeviceGetCount()
            return [self._gpu(library.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
        except Exception:  # the driver was replaced, or a GPU fell off the bus: their state is unknown
            return []

    def _gpu(self, handle: Any) -> Gpu:
        library = self._library
        uuid = library.nvmlDeviceGetUUID(handle)
        memory = _asked(lambda: library.nvmlDeviceGetMemoryInfo(handle))
        return Gpu(
            uuid=uuid.decode() if isinstance(uuid, bytes) else str(uuid),
            joules=_number(lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000),
            watts=_number(lambda: library.nvmlDeviceGetPowerUsage(handle) / 1000),
            used_bytes=None if memory is None else float(memory.used),
            total_bytes=None if memory is None else float(memory.total),
            load=_number(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu),
            processes=frozenset(
                int(each.pid) for each in _asked(lambda: library.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
            ),
        )


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:  # not every GPU supports every query: MIG partitions report no energy
        return None


def _number(ask: Callable[[], Any]) -> float | None:
    found = _asked(ask)
    return None if found is None else float(found)


def held(seen: Sequence[Gpu]) -> frozenset[str] | None:
    """UUIDs of the GPUs that this process occupies: in a pod all visible ones, else those on which it or a child has memory.

    None: it computes on some, but it is unknown which. The framework is only asked if it is already loaded.
    """
    if os.environ.get(IN_A_POD) and seen:
        return frozenset(gpu.uuid for gpu in seen)
    torch = sys.modules.get("torch")
    of_children = frozenset(gpu.uuid for gpu in seen if any(map(_is_ours, gpu.processes)))
    try:
        if torch is None or not torch.cuda.is_initialized():
            return of_children
        used = [index for index in range(torch.cuda.device_count()) if torch.cuda.max_memory_reserved(index)]
        uuids = frozenset(f"{_UUID}{torch.cuda.get_device_properties(index).uuid}" for index in used)
    except Exception:  # this is another thread than the training's, whose errors must not surface here
        return None
    return uuids | of_children


def _is_ours(process: int) -> bool:
    """Whether a process is in this process's session, like all that a step starts."""
    try:
        return os.getsid(process) == os.getsid(0)
    except OSError:
        return False


def memory_bytes() -> int | None:
    """Peak bytes of accelerator memory of this process; None if it computes on processors."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.max_memory_reserved(index)) for index in range(torch.cuda.device_count()))
