"""Runs several trainings of a run concurrently, sharing cores and GPUs: trials of a search. Part of the stage train.

Each computes in a separate process, which is killed with the step. Everything else (history, tracking, storage) is done in the
step, by one thread per training. Only one of these threads works at a time, while the others wait for messages of their
processes. So no other code in the step needs to be thread-safe.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import TYPE_CHECKING, Any

from pelagos_contract.training import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pelagos_pipelines.steps.runs import Run
    from pelagos_pipelines.training.families import Job
    from pelagos_pipelines.training.training_history import TrainingHistory

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class HaltedError(Exception):
    """The training was ended because another one has failed for a cause that concerns all of them."""


@dataclass(frozen=True)
class _Seat:
    """One training's part of the machine; ``gpus`` is empty if there are none."""

    cpu: int
    gpus: Sequence[str]

    def variables(self, training: Run) -> dict[str, str]:
        """Environment variables for the process. Concurrent trainings must not share the settings that ultralytics writes."""
        found = {"YOLO_CONFIG_DIR": str(training.workspace / "ultralytics")}
        return found | ({_VISIBLE: ",".join(self.gpus)} if self.gpus else {})


class SideBySide:
    """Runs up to ``count`` trainings at a time; if there are fewer GPUs, only as many as there are GPUs."""

    def __init__(self, run: Run, count: int) -> None:
        """Divide the cores and GPUs that the run may use evenly. The run's framework must be loaded."""
        cores, gpus = run.request.resources.cpu, _gpus(run.request.resources.gpus)
        width = min(count, len(gpus)) if gpus else count
        each = len(gpus) // width
        # Cores are divided by ``count``, not by ``width``, because a trial must not depend on the number of GPUs.
        self._free = [_Seat(max(cores // count, 1), gpus[i * each : (i + 1) * each]) for i in range(width)]
        self._width, self._workspace = width, run.places.workspace
        self._turn, self._is_halted = threading.Lock(), False
        self._heard, self._halt = Pipe(duplex=False)

    def perform(self, works: Sequence[Callable[[], None]]) -> None:
        """Call all functions, concurrently, and start them in the given order. When one fails, the others are ended.

        Raises the error of the first one that failed.
        """
        with ThreadPoolExecutor(self._width, "trial") as pool:
            going = [pool.submit(self._take_turn, work) for work in works]
            try:
                for ended in as_completed(going):
                    ended.result()
            except BaseException:
                self._is_halted = True
                # Every thread waits on this pipe, and none receives from it, so the message stays visible to all.
                self._halt.send(None)
                raise

    def train(self, training: Run, job: Job, history: TrainingHistory) -> int:
        """Like `families.Family.train`, in a separate process. Called by the functions passed to `perform`.

        Raises:
            HaltedError: another training has failed.
            RefusedError, ProcessFailedError: see processes.train_apart.
        """
        from pelagos_pipelines.training import processes

        assert training.part is not None
        folder = training.part.folder
        with self._seated() as seat:
            share = Threads(cpu=seat.cpu, gpus=len(seat.gpus) or job.request.resources.gpus)
            job = replace(job, request=job.request.model_copy(update={"resources": share}))
            way = processes.Way(seat.variables(training), lambda all_of_it, left: self._wait(folder, all_of_it, left))
            return processes.train_apart(job, history, way)

    @contextmanager
    def _seated(self) -> Iterator[_Seat]:
        # Without a lock, because only the thread that has the turn comes here.
        seat = self._free.pop(0)
        try:
            yield seat
        finally:
            self._free.append(seat)

    def _take_turn(self, work: Callable[[], None]) -> None:
        with self._turn:
            # A training that has not begun needs no ending.
            if not self._is_halted:
                work()

    def _wait(self, folder: str, connections: Sequence[Connection], left: float | None) -> Sequence[Any]:
        """Let other threads work until a process of this training sends a message.

        The process is computing, and may write checkpoints, so its folder is marked as changing for `Place.push`. It writes
        nothing between its message and our answer, while this thread has the turn.
        """
        self._workspace.changing.add(folder)
        self._turn.release()
        try:
            found = wait([*connections, self._heard], left)
        finally:
            self._turn.acquire()
            self._workspace.changing.discard(folder)
        if self._heard in found:
            raise HaltedError
        return found


def _gpus(asked: int) -> list[str]:
    """The GPUs that a run may use, by CUDA's names: as many as requested and available, at least one if there are any."""
    import torch

    if not torch.cuda.is_available():
        return []
    there = torch.cuda.device_count()
    named = [name for name in os.environ.get(_VISIBLE, "").split(",") if name] or [str(i) for i in range(there)]
    return named[: max(min(asked, there), 1)]
