"""The stage train: a dataset version to the checkpoint of the best epoch, tracked, from the last checkpoint if there is one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pelagos_contract import event_files as names
from pelagos_contract import sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.progress import SeedState, Stage
from pelagos_contract.tags import BALANCE_TAG, CHECKPOINT_SHA256_TAG
from pelagos_pipelines.steps import costs, runs, seeds, starting

if TYPE_CHECKING:
    from pelagos_contract.training import Hyperparameters, TrainingRequest
    from pelagos_pipelines.evaluation.samples import GroundTruth
    from pelagos_pipelines.training.altering import Augmenting
    from pelagos_pipelines.training.families import Family
    from pelagos_pipelines.training.tracking import Tracker
    from pelagos_pipelines.training.training_history import Epoch

STEP = "train"
_LONGEST = 500
"""Characters of a parameter: as many as any MLflow server takes."""
_EVENTS_SECONDS = 60.0
"""At least so long lies between two times that MLflow gets the event file of a training that goes on."""


def train(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Train and leave ``train.json`` with the number of epochs and the metrics of the best one.

    Raises:
        RefusedError: a person must change the input; ``failure.json`` says what.
        TrackingError: MLflow could not be reached; training is done and will not be repeated.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        stage(run)


def stage(run: runs.Run) -> None:
    """As `train`, in a step that does more."""
    trainings = seeds.trainings(run)
    due = [training for training in trainings if not _is_finished(training)]
    if due:
        run.telling.enter(Stage.PREPARATION)
        prepared = _prepare(run)
        whole = _Whole(run, trainings, prepared)
        for training in due:
            with seeds.named(training):
                _train(training, prepared, whole)
        whole.end()
    if len(trainings) > 1:
        run.finish(STEP, seeds.trained(run))


def _is_finished(run: runs.Run) -> bool:
    """Whether an attempt of this run has trained, and its best checkpoint is there as it left it."""
    if not run.finished(STEP):
        return False
    try:
        run.best(run.read(STEP)["bestSha256"])
    except (RefusedError, KeyError):
        return False
    return True


@dataclass(frozen=True)
class _Prepared:
    """What all trainings of a run begin with: the request with its dataset on this machine, the truth, the checkpoint."""

    request: TrainingRequest
    known: GroundTruth
    family: Family
    start: Path | None

    def applied(self, request: TrainingRequest) -> dict[str, str]:
        """See `_applied`."""
        return _applied(self.known, self.family, request.hyperparameters)


def _prepare(run: runs.Run) -> _Prepared:
    from pelagos_pipelines.evaluation import ground_truth
    from pelagos_pipelines.training.families import family_of

    request = run.with_dataset("train", "validation")
    known = ground_truth.read(request, check_content=True)
    family = family_of(request)
    _require_heeded(known, family)
    return _Prepared(request, known, family, starting.bring(run))


class _Whole:
    """All trainings of a run: how far they are together, as the run in MLflow and the stage have it.

    Epochs that early stopping left out count as done when their training is.
    """

    def __init__(self, run: runs.Run, trainings: Sequence[runs.Run], prepared: _Prepared) -> None:
        self._run, self._told = run, seeds.Told(run, trainings)
        self._planned = [training.request.hyperparameters.epochs for training in trainings]
        self._numbers = {training.request.seed: number for number, training in enumerate(trainings)}
        self._tracker: Tracker | None = None
        if len(trainings) > 1:
            self._tracker = run.tracker()
            _describe(run, self._tracker, prepared.applied(run.request))

    def begins(self, training: runs.Run) -> None:
        """With its first epoch, or again after an interruption."""
        self._run.telling.enter(Stage.TRAINING, sum(self._planned))
        self._told.becomes(training, SeedState.TRAINING)

    def ended(self, training: runs.Run) -> None:
        """All that it does is safe."""
        self._told.becomes(training, SeedState.TRAINED)
        number = self._numbers[training.request.seed]
        self._count(sum(self._planned[: number + 1]))

    def epoch(self, training: runs.Run, last: Epoch) -> None:
        """It has ended an epoch."""
        self._told.epoch(training, last.number)
        self._count(sum(self._planned[: self._numbers[training.request.seed]]) + last.number, last.seconds)

    def end(self) -> None:
        """Wait until MLflow knows it."""
        if self._tracker is not None:
            # What all of them took: nothing tells which of them took how much of it.
            costs.told(self._run.meter, self._tracker)
            self._tracker.flush()

    def _count(self, done: int, seconds: float | None = None) -> None:
        self._run.telling.count(done, sum(self._planned))
        if self._tracker is not None:
            pace = {} if seconds is None else {"progress/seconds_per_epoch": seconds}
            self._tracker.metrics({"progress/epoch": float(done)} | pace, done, time.time())


def _train(run: runs.Run, prepared: _Prepared, whole: _Whole) -> None:
    from pelagos_pipelines.training import event_files
    from pelagos_pipelines.training.families import Job
    from pelagos_pipelines.training.training_history import TrainingHistory

    run.checkpoints.mkdir(parents=True, exist_ok=True)
    # Before history and checkpoints are read, which a family goes on from without asking where they come from.
    run.forget_strangers()
    tracker = run.tracker()
    _describe(run, tracker, prepared.applied(run.request))
    run.meter.tell(tracker.metrics)

    events, sent = run.events / names.TRAINING, time.monotonic()

    def keep() -> bool:
        nonlocal sent
        whole.epoch(run, history.epochs[-1])
        event_files.write(events, event_files.of_training(history.epochs))
        starting.note(run, prepared.start)
        if not run.keep_epoch():
            return False
        if time.monotonic() - sent > _EVENTS_SECONDS:
            tracker.file(events, names.FOLDER)
            sent = time.monotonic()
        return True

    shown = sum(sample.repeats for sample in prepared.known.samples("train"))
    history = TrainingHistory(run.history, tracker, keep, shown)
    whole.begins(run)
    request = run.request.model_copy(update={"dataset": prepared.request.dataset})
    number = prepared.family.train(Job(request, prepared.known, run.checkpoints, prepared.start), history)
    # The process of before may have ended between the last checkpoint and this.
    event_files.write(events, event_files.of_training(history.epochs))
    # The storage may have been away after the last epochs: MLflow is told of them when they are safe, and not before.
    starting.note(run, prepared.start)
    run.keep()
    history.send()
    # Other trainings may start from it: see remote_weights.
    best_sha256 = sealing.digest_of(run.checkpoints / "best.pt")
    tracker.file(run.best(best_sha256), "checkpoint")
    tracker.describe(starting.described(run), {CHECKPOINT_SHA256_TAG: best_sha256})
    tracker.file(events, names.FOLDER)
    run.meter.tell(None)
    if run.part is None:
        costs.told(run.meter, tracker)
    # Finished is what MLflow has. Without it the step fails, and the next attempt finds the training done.
    tracker.flush()
    best = next(epoch for epoch in history.epochs if epoch.number == number)
    state = {"epochs": len(history.epochs), "bestEpoch": best.number, "metrics": best.metrics}
    state["warnings"] = starting.warnings(run)
    run.finish(STEP, state | {"bestSha256": best_sha256})
    if run.part is not None:
        _forget_unneeded(run)
    whole.ended(run)


def _forget_unneeded(run: runs.Run) -> None:
    """Of each of many trainings that are over, the checkpoint to go on from would only fill the storage."""
    for path in run.checkpoints.rglob("*"):
        if path.is_file() and path.name.strip(".").split(".")[0] != "best":
            path.unlink()


def _require_heeded(known: GroundTruth, family: Family) -> None:
    """A family of before knows nothing of what a dataset may declare, and its models would say nothing of that."""
    description = family.DESCRIPTION
    declared = (
        ("preprocessing.normalization", known.statistics, description.normalizes),
        ("balance", known.balance, description.balances),
        ("augmentation", known.augmentation, description.augments),
    )
    for field, value, heeds in declared:
        if value is not None and not heeds:
            raise RefusedError(
                Reason.TASK_MISMATCH,
                f"the dataset declares {field}, which the family {description.name} does not heed; name an architecture of"
                " another family, or take it out of the dataset",
                "model.architecture",
            )


def _applied(known: GroundTruth, family: Family, parameters: Hyperparameters) -> dict[str, str]:
    """What is done to training images, and how often an epoch shows them, for the record of the training."""
    altered: dict[str, str] = {}
    if family.DESCRIPTION.augments:
        found = cast("Augmenting", family).applied(known.augmentation, parameters)
        altered = {f"augmentation.{name}": value for name, value in found.items()}
    balance, training = known.balance, known.samples("train")
    if balance is None:
        return altered
    applied = {
        "balance.strategy": balance.strategy,
        "balance.target": balance.target,
        "balance.images": len(training),
        "balance.shown": sum(sample.repeats for sample in training),
        "balance.leftOut": sum(not sample.repeats for sample in training),
        "balance.mostRepeats": max(sample.repeats for sample in training),
    }
    if balance.weights is not None:
        weights = ", ".join(f"{name} {one:g}" for name, one in zip(known.labels, balance.weights, strict=True))
        applied["balance.weights"] = weights if len(weights) <= _LONGEST else f"{weights[: _LONGEST - 1]}…"
    return altered | {name: str(value) for name, value in applied.items()}


def _describe(run: runs.Run, tracker: Tracker, applied: Mapping[str, str]) -> None:
    """Parameters, environment and lineage: enough to repeat the run and to know what it used."""
    from pelagos_pipelines.preparation.judging import kept
    from pelagos_pipelines.training import environment, processes
    from pelagos_pipelines.training.families import offered
    from pelagos_pipelines.training.tracking import DatasetUse

    dataset = run.request.dataset
    parameters = run.request.hyperparameters.model_dump(by_alias=True, exclude_none=True) | {
        "architecture": run.request.model.architecture,
        "task": run.request.task.value,
        "seed": ", ".join(map(str, run.request.seeds)) or run.request.seed,
        "dataset": dataset.name,
        "datasetVersion": dataset.version,
        "earlyStoppingPatience": run.request.early_stopping.patience if run.request.early_stopping else "none",
        "weights": (run.request.model.weights.place if run.request.model.weights else "none")[:_LONGEST],
    }
    if offered(run.request).description.several_gpus and (count := processes.wanted(run.request)) > 1:
        parameters["processes"] = count
    listing = run.workspace / "packages.txt"
    tags = environment.record(listing, offered(run.request).packages)
    if "balance.strategy" in applied:
        tags |= {BALANCE_TAG: f"{applied['balance.strategy']} to {applied['balance.target']}"}
    tracker.describe({name: str(value) for name, value in parameters.items()} | dict(applied), tags)
    tracker.dataset(DatasetUse(dataset.name, dataset.version, dataset.uri, "training"))
    tracker.file(listing, "environment")
    for file in kept.find(dataset.uri, run.places.scratch / "judged"):
        tracker.file(file, "dataset")
