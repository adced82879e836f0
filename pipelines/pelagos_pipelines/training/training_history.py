"""The history of a training: one row per finished epoch, on disk before the checkpoint that holds the epoch.

Families record into it; figures read it. MLflow is told of an epoch when its checkpoint is safe, never before: an epoch that is
trained again was not told, and no step stands there twice. A training that is started again drops rows that its checkpoint
does not hold, and sends the others again, because the process may have died between the checkpoint and sending.
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
    """Metrics of one epoch; ``number`` counts from 1, ``at`` is in seconds since the Unix epoch, ``seconds`` its duration.

    ``images`` are how many it showed, ``gpu_bytes`` the most that the process held of GPUs until then; None: not known, or none.
    """

    number: int
    at: float
    metrics: dict[str, float]
    seconds: float = 0.0
    images: int | None = None
    gpu_bytes: int | None = None

    @property
    def pace(self) -> dict[str, float]:
        """Figures of how the training gets on; images are shown, measured on the validation split, and saved in that time."""
        found: dict[str, float | None] = {"epoch": self.number, "seconds_per_epoch": self.seconds}
        found["images_per_second"] = self.images / self.seconds if self.images and self.seconds else None
        found["gpu_memory_bytes"] = self.gpu_bytes
        return {f"progress/{name}": float(value) for name, value in found.items() if value is not None}


class TrainingHistory:
    """Epochs so far."""

    def __init__(
        self, path: Path, tracker: Tracker, keep: Callable[[], bool] = lambda: True, images: int | None = None
    ) -> None:
        """Read what an earlier process recorded.

        ``images`` are how many each epoch from now on shows. ``keep`` brings history and checkpoints to safety after every
        epoch, and says whether it could.
        """
        self._path, self._tracker, self._keep, self._images = path, tracker, keep, images
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self.epochs = [Epoch(**row) for row in rows]
        self._sent = 0
        self._began = time.monotonic()

    def continue_after(self, epoch: int) -> None:
        """Keep the rows up to ``epoch`` (0 for a fresh start) and send them again."""
        self.epochs = [row for row in self.epochs if row.number <= epoch]
        self.send()

    def record(self, epoch: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Write the metrics of a finished epoch that are numbers, and return those; call it before its checkpoint is written."""
        now = time.monotonic()  # How long an epoch takes must not change with the time of day.
        # Plain ones: checkpoints keep the best of them, and are read by what knows no numbers of numpy.
        known = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        seconds = round(now - self._began, 3)
        row = Epoch(epoch, time.time(), known, seconds, self._images, accelerators.memory_bytes())
        self._began = now
        # A row of this epoch is of a process that died before its checkpoint.
        self.epochs = [*(kept for kept in self.epochs if kept.number < epoch), row]
        text = json.dumps([asdict(kept) for kept in self.epochs]) + "\n"
        # The seal first, as of checkpoints: a history without one counts as a stranger's, and all would begin anew.
        sealing.vouch(self._path, hashlib.sha256(text.encode()).hexdigest())
        disk.write_atomically(self._path, text, parents=True)
        return known

    def keep(self) -> None:
        """Call it after the epoch's checkpoint is written: what a pod has on its disk goes with the pod."""
        if self._keep():
            self.send()

    def send(self) -> None:
        """Send the rows that were not sent yet. Their checkpoint must be safe."""
        for row in self.epochs:
            if row.number > self._sent:
                self._tracker.metrics(row.metrics | row.pace, row.number, row.at)
                self._sent = row.number

    @property
    def told(self) -> int:
        """The last epoch that MLflow was told of: its checkpoint is safe. 0: none."""
        return self._sent

    def best(self, task: Task) -> Epoch | None:
        """The best of these epochs, by the rule of all families."""
        progress, best = Progress(), None
        for row in self.epochs[: self.told]:
            progress = progress.after(row.metrics, task)
            best = row if progress.is_best else best
        return best
