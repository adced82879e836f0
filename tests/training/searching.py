"""Searches whose trials take no time, and the parameters of steps, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.search import Trial
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.metering.meter import Meter
from pelagos_pipelines.steps import runs, search
from pelagos_pipelines.steps.search import Trials
from pelagos_pipelines.storage import Place
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import make_request

RATES = {"learningRate": {"values": ["0.001", "0.01", "0.02", "1e30"]}}
GRID = {"method": "Grid", "trials": 4, "space": RATES}


def parameters(folder: Path, request: TrainingRequest, *tracked: str) -> tuple[str, str, str, str, str, str, str]:
    data, store, report, workspace = (str(folder / name) for name in ("data", "store", "report", "workspace"))
    uri, run = tracked or ("", "")
    return request.model_dump_json(by_alias=True), data, store, report, workspace, uri, run


class Trainer:
    """Trains by recording the values that the test gives for each epoch. ``die_at`` ends the process after that many epochs."""

    def __init__(
        self, values: dict[str, list[float]], die_at: int | None = None, death: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.values, self.left, self.death = values, die_at, death
        self.trained: list[tuple[int, int]] = []

    def __call__(self, training: runs.Run, after: Any) -> None:
        rate = training.request.hyperparameters.learning_rate
        history = TrainingHistory(training.history, Tracker("", ""))
        done = len(history.epochs)
        history.continue_after(done)
        for epoch, value in list(enumerate(self.values[rate], 1))[done:]:
            if value == float("inf"):
                raise RefusedError(Reason.OUT_OF_MEMORY, "memory ran out at batchSize 4", "hyperparameters.batchSize")
            if self.left == 0:
                raise self.death
            history.record(epoch, {"validation/F1": value, "validation/loss": 1.0})
            number = int(training.workspace.name)
            self.trained.append((number, epoch))
            self.left = None if self.left is None else self.left - 1
            after(history.epochs[-1])


VALUES = {"0.001": [0.2, 0.5, 0.6], "0.01": [0.1, 0.1, 0.1], "0.02": [0.3, 0.7, 0.65], "1e30": [float("inf")]}
PRUNED = GRID | {"pruning": {"startupTrials": 1, "warmUpEpochs": 0}}


def make_run(folder: Path, wanted: dict[str, Any]) -> runs.Run:
    request = make_request("mobilenet_v3_small", search=wanted)
    places = runs.Places("", Place("", folder), Place("", folder), Place(str(folder), folder), folder, None)
    return runs.Run(request, places, "", "", Meter(folder / "cost.json"))


def make_trials(
    folder: Path,
    train: Any,
    wanted: dict[str, Any],
    together: search.Together = search.one_after_the_other,
) -> Trials:
    run = make_run(folder, wanted)
    assert run.request.search is not None
    return Trials(run, run.request.search, train, lambda number, epoch: None, together)


def history_of(folder: Path, wanted: dict[str, Any]) -> list[Trial]:
    told = search.told(make_run(folder, wanted))
    assert told is not None
    return told.history


def nothing(*_: Any) -> None:
    """A callback that reports nothing."""
