"""The history of a training: one row per finished epoch, on disk before the checkpoint of that epoch.

Families record into it, and figures read it. An epoch is sent to MLflow only once its checkpoint is safe, so that an epoch that
is trained again was never sent before, and no step is logged twice. A training that is started again drops the rows that its
checkpoint does not have, and sends the others again, because the process may have died between the checkpoint and sending.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pelagos_contract import disk, sealing
from pelagos_contract.tasks import Task
from pelagos_pipelines.metering import accelerators
from pelagos_pipelines.training.progress import Progress
from pelagos_pipelines.training.tracking import Tracker


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch. ``number`` counts from 1, ``at`` is its end in seconds since 1970, ``seconds`` its duration.

    ``images`` is how many it showed. ``gpu_bytes`` is the GPU memory that the process has used at most; None if not known.
    """

    number: int
    at: float
    metrics: dict[str, float]
    seconds: float = 0.0
    images: int | None = None
    gpu_bytes: int | None = None

    @property
    def pace(self) -> dict[str, float]:
        """Figures of the training's speed. The time of an epoch includes training, validation and saving."""
        found: dict[str, float | None] = {"epoch": self.number, "seconds_per_epoch": self.seconds}
        found["images_per_second"] = self.images / self.seconds if self.images and self.seconds else None
        found["gpu_memory_bytes"] = self.gpu_bytes
        return {f"progress/{name}": float(value) for name, value in found.items() if value is not None}


class TrainingHistory:
    """The finished epochs of a training, on disk and in MLflow."""

    def __init__(
        self, path: Path, tracker: Tracker, keep: Callable[[], bool] = lambda: True, images: int | None = None
    ) -> None:
        """Read what an earlier process recorded.

        ``images`` is how many images each further epoch shows. ``keep`` copies history and checkpoints to safe storage after
        every epoch, and returns whether that succeeded.
        """
        self._path, self._tracker, self._keep, self._images = path, tracker, keep, images
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self.epochs = [Epoch(**row) for row in rows]
        self._sent = 0
        self._began = time.monotonic()

    def continue_after(self, epoch: int) -> None:
        """Drop the rows after ``epoch`` (0 for a fresh start), and send the others again."""
        self.epochs = [row for row in self.epochs if row.number <= epoch]
        self.send()

    def record(self, epoch: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Write the finite metrics of a finished epoch, and return them. Call it before the epoch's checkpoint is written."""
        now = time.monotonic()  # durations must not change when the clock is set
        # Plain floats, because checkpoints keep the best of them, and a safe load of those knows no types of numpy.
        known = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        seconds = round(now - self._began, 3)
        row = Epoch(epoch, time.time(), known, seconds, self._images, accelerators.memory_bytes())
        self._began = now
        # An existing row of this epoch is from a process that died before it wrote the checkpoint.
        self.epochs = [*(kept for kept in self.epochs if kept.number < epoch), row]
        text = json.dumps([asdict(kept) for kept in self.epochs]) + "\n"
        # The seal is written first, as for checkpoints: a history without one counts as a stranger's, and the training would
        # start from scratch.
        sealing.vouch(self._path, hashlib.sha256(text.encode()).hexdigest())
        disk.write_atomically(self._path, text, parents=True)
        return known

    def keep(self) -> None:
        """Copy history and checkpoints to safe storage, then send. Call it after the epoch's checkpoint is written.

        A pod's disk is deleted with the pod, so an epoch counts as safe only then.
        """
        if self._keep():
            self.send()

    def send(self) -> None:
        """Send the rows that were not sent yet. Their checkpoints must be safe."""
        for row in self.epochs:
            if row.number > self._sent:
                self._tracker.metrics(row.metrics | row.pace, row.number, row.at)
                self._sent = row.number

    @property
    def told(self) -> int:
        """The number of the last epoch that was sent to MLflow, whose checkpoint is safe; 0 for none."""
        return self._sent

    def best(self, task: Task) -> Epoch | None:
        """The best of the epochs that were sent, by the rule of `progress.Progress`; None if there is none."""
        progress, best = Progress(), None
        for row in self.epochs[: self.told]:
            progress = progress.after(row.metrics, task)
            best = row if progress.is_best else best
        return best
