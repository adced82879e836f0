"""Several trainings of a run at the same time, which share cores and GPUs: trials of a search. Part of the stage train.

Each computes in a process of its own, which dies with the step. All else that belongs to a training (its history, its record, its
place in the storage) is done in the step, by a thread for each; of these one works at a time, while the others wait for what
their processes have to tell. So nothing in the step has to expect that another thread is at work.
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
    """The training was ended since another one failed of what speaks against none of them alone."""


@dataclass(frozen=True)
class _Seat:
    """What one training has of the machine. No GPUs: there are none."""

    cpu: int
    gpus: Sequence[str]

    def variables(self, training: Run) -> dict[str, str]:
        """Of its process. Trainings at the same time must not share settings of ultralytics, which they write."""
        found = {"YOLO_CONFIG_DIR": str(training.workspace / "ultralytics")}
        return found | ({_VISIBLE: ",".join(self.gpus)} if self.gpus else {})


class SideBySide:
    """Up to ``count`` trainings of a run; on one machine with fewer GPUs, as many as there are GPUs."""

    def __init__(self, run: Run, count: int) -> None:
        """Share what the run may use of this machine evenly. Its framework is loaded."""
        cores, gpus = run.request.resources.cpu, _gpus(run.request.resources.gpus)
        width = min(count, len(gpus)) if gpus else count
        each = len(gpus) // width
        # As many cores as if all could begin: a trial must not depend on how many GPUs there are.
        self._free = [_Seat(max(cores // count, 1), gpus[i * each : (i + 1) * each]) for i in range(width)]
        self._width, self._workspace = width, run.places.workspace
        self._turn, self._is_halted = threading.Lock(), False
        self._heard, self._halt = Pipe(duplex=False)

    def perform(self, works: Sequence[Callable[[], None]]) -> None:
        """Do all of it, in the order given where not all can begin. When one fails the others are ended.

        Raises: what the first one that failed did.
        """
        with ThreadPoolExecutor(self._width, "trial") as pool:
            going = [pool.submit(self._take_turn, work) for work in works]
            try:
                for ended in as_completed(going):
                    ended.result()
            except BaseException:
                self._is_halted = True
                # All listen to it, and none takes it away.
                self._halt.send(None)
                raise

    def train(self, training: Run, job: Job, history: TrainingHistory) -> int:
        """As `families.Family.train`, in a process of its own. Called by what `perform` does.

        Raises:
            HaltedError: another one has failed.
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
        seat = self._free.pop(0)
        try:
            yield seat
        finally:
            self._free.append(seat)

    def _take_turn(self, work: Callable[[], None]) -> None:
        with self._turn:
            # One that waited to begin has nothing to end.
            if not self._is_halted:
                work()

    def _wait(self, folder: str, connections: Sequence[Connection], left: float | None) -> Sequence[Any]:
        """Let the others work until a process of this training has something to tell; it writes nothing before it is answered."""
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
    """The GPUs that a run may use, as CUDA names them: of those that are there as many as it asks for, or one."""
    import torch

    if not torch.cuda.is_available():
        return []
    there = torch.cuda.device_count()
    named = [name for name in os.environ.get(_VISIBLE, "").split(",") if name] or [str(i) for i in range(there)]
    return named[: max(min(asked, there), 1)]
