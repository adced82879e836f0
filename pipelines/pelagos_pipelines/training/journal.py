"""The history of a training: one row per finished epoch, on disk before the checkpoint that holds the epoch.

Families record into it; figures read it. A training that is started again drops rows that its checkpoint does not hold and
sends the others again, because the process may have died between writing and sending them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pelagos_pipelines import sealing
from pelagos_pipelines.contract import write_atomically
from pelagos_pipelines.training.tracking import Tracker


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch; ``number`` counts from 1, ``at`` is in seconds since the Unix epoch, ``seconds`` its duration."""

    number: int
    at: float
    metrics: dict[str, float]
    seconds: float = 0.0


class Journal:
    """Epochs so far."""

    def __init__(self, path: Path, tracker: Tracker, keep: Callable[[], None] = lambda: None) -> None:
        """Read what an earlier process recorded. ``keep`` brings history and checkpoints to safety after every epoch."""
        self._path, self._tracker, self._keep = path, tracker, keep
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self.epochs = [Epoch(**row) for row in rows]
        self._began = time.time()

    def continue_after(self, epoch: int) -> None:
        """Keep the rows up to ``epoch`` (0 for a fresh start) and send them again."""
        self.epochs = [row for row in self.epochs if row.number <= epoch]
        for row in self.epochs:
            self._send(row)

    def record(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write and send the metrics of a finished epoch; call it before the epoch's checkpoint is written."""
        now = time.time()
        row = Epoch(epoch, now, dict(metrics), round(now - self._began, 3))
        self._began = now
        self.epochs = [*(kept for kept in self.epochs if kept.number < epoch), row]
        text = json.dumps([asdict(kept) for kept in self.epochs]) + "\n"
        sealing.vouch(self._path, hashlib.sha256(text.encode()).hexdigest())
        write_atomically(self._path, text)
        self._send(row)

    def keep(self) -> None:
        """Call it after the epoch's checkpoint is written: what a pod has on its disk goes with the pod."""
        self._keep()

    def _send(self, row: Epoch) -> None:
        progress = {"progress/epoch": float(row.number), "progress/seconds_per_epoch": row.seconds}
        self._tracker.metrics(row.metrics | progress, row.number, row.at)
