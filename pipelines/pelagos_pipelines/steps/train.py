"""The stage train: trains on a dataset version, continuing from the last checkpoint, and keeps that of the best epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from pelagos_contract import disk, sealing
from pelagos_contract import event_files as names
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.progress import SeedState, Stage
from pelagos_contract.splits import SPLITS, Split
from pelagos_contract.tags import BALANCE_TAG, CHECKPOINT_SHA256_TAG, ENVIRONMENT_TAGS, SEARCH_TAG
from pelagos_pipelines.steps import leaving_out, runs, seeds, starting, trackers
from pelagos_pipelines.steps import search as searching
from pelagos_pipelines.steps.side_by_side import SideBySide
from pelagos_pipelines.steps.whole import Whole

if TYPE_CHECKING:
    from pelagos_contract.search import Search
    from pelagos_contract.training import Hyperparameters, TrainingRequest
    from pelagos_pipelines.evaluation.samples import GroundTruth
    from pelagos_pipelines.training.altering import Augmenting
    from pelagos_pipelines.training.families import Family
    from pelagos_pipelines.training.tracking import Tracker
    from pelagos_pipelines.training.training_history import Epoch, TrainingHistory
    from pelagos_pipelines.training.wandb_run import WandbRun

STEP = "train"
_LONGEST = 500
"""The most characters of a parameter that every MLflow server accepts."""
_EVENTS_SECONDS = 60.0
"""The least seconds between two uploads of a running training's event file to MLflow."""


def train(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Train, and write ``train.json`` with the number of epochs and the metrics of the best one.

    Raises:
        RefusedError: a person must change the input; ``failure.json`` says what.
        TrackingError: MLflow could not be reached; training is done and will not be repeated.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        stage(run)


def stage(run: runs.Run) -> None:
    """Like `train`, as one stage of a step."""
    leaving_out.plan(run)
    if not all(map(_is_finished, seeds.trainings(run))):
        run.telling.enter(Stage.PREPARATION)
        prepared, whole = _prepare(run), Whole(run)
        if run.request.search is not None:
            run = _searched(run, run.request.search, prepared, whole)
        _train_all(run, prepared, whole)
    if len(run.request.seeds) > 1:
        run.finish(STEP, seeds.trained(run))
        _show_chosen(run)
    _train_without(run)


def _show_chosen(run: runs.Run) -> None:
    """Add the curves and the checkpoint of the training whose model is packaged to the run above all trainings.

    Registered models name that run, and other trainings start from its checkpoint.
    """
    tracker, model = run.tracker(), seeds.model_of(run)
    best_sha256 = run.read(STEP)["bestSha256"]
    tracker.describe(starting.described(model), {CHECKPOINT_SHA256_TAG: best_sha256})
    tracker.file(model.best(best_sha256), "checkpoint")
    tracker.file(model.events / names.TRAINING, names.FOLDER)
    tracker.flush()


def _train_all(run: runs.Run, prepared: _Prepared, whole: Whole) -> None:
    """Train with each seed, except those that are finished."""
    trainings = seeds.trainings(run)
    told, planned = seeds.Told(run, trainings), run.request.hyperparameters.epochs
    if len(trainings) > 1:
        assert whole.tracker is not None
        _describe(run, whole.tracker, prepared.applied(run.request))
    for number, training in enumerate(trainings):
        if _is_finished(training):
            continue
        before = number * planned

        def after(epoch: Epoch, training: runs.Run = training, before: int = before) -> None:
            told.epoch(training, epoch.number)
            whole.count(Stage.TRAINING, before + epoch.number, epoch.seconds)

        def begin(training: runs.Run = training) -> None:
            whole.enter(Stage.TRAINING)
            told.becomes(training, SeedState.TRAINING)

        with seeds.named(training):
            _train(training, prepared, after, begin)
        runs.give_back_memory()
        told.becomes(training, SeedState.TRAINED)
        whole.count(Stage.TRAINING, before + planned)
    whole.end()


def _train_without(run: runs.Run) -> None:
    """Train a model without each group, if requested, except those that are finished."""
    trainings = leaving_out.trainings(run)
    if all(map(_is_finished, trainings)):
        return
    told, planned = leaving_out.Told(run, trainings), run.request.hyperparameters.epochs
    run.telling.enter(Stage.LEAVE_ONE_OUT, len(trainings) * planned)
    prepared = _prepare(run, *SPLITS)
    truth = leaving_out.grouped(run, prepared.known)
    for number, training in enumerate(trainings):
        if _is_finished(training):
            continue

        def after(epoch: Epoch, training: runs.Run = training, before: int = number * planned) -> None:
            told.epoch(training, epoch.number)
            run.telling.count(before + epoch.number, len(trainings) * planned)

        def begin(training: runs.Run = training) -> None:
            told.becomes(training, SeedState.TRAINING)

        with seeds.named(training):
            _train(training, replace(prepared, known=truth.of(training, run)), after, begin, is_trial=True)
        runs.give_back_memory()
        told.becomes(training, SeedState.TRAINED)


def _searched(run: runs.Run, search: Search, prepared: _Prepared, whole: Whole) -> runs.Run:
    """Run all trials, and return the run with the best hyperparameters."""
    most = search.epochs_of_trials(run.request.hyperparameters.epochs)
    beside = SideBySide(run, search.width) if search.width > 1 else None

    def train(training: runs.Run, after: Callable[[Epoch], None]) -> None:
        if not _is_finished(training):
            begin = partial(whole.enter, Stage.SEARCH)
            _train(training, prepared, after, begin, is_trial=True, beside=beside)

    def at_epoch(number: int, epoch: Epoch) -> None:
        whole.count(Stage.SEARCH, trials.done(most, but=number) + epoch.number, epoch.seconds)

    def ended(entry: searching.Entry, best: searching.Entry | None) -> None:
        runs.give_back_memory()
        whole.count(Stage.SEARCH, trials.done(most))
        if best is not None and best.value is not None and whole.tracker is not None:
            whole.tracker.metrics({"search/best": best.value}, entry.number, time.time())
            whole.tracker.describe({}, {SEARCH_TAG: json.dumps(best.told().written(), sort_keys=True)})

    trials = searching.Trials(run, search, train, at_epoch, beside.perform if beside else searching.one_after_the_other)
    whole.enter(Stage.SEARCH)
    if beside is not None and whole.tracker is not None:
        # The machine's load is that of all trials together, and cannot be attributed to single ones.
        run.meter.tell(whole.tracker.metrics)
    best = trials.perform(ended)
    if beside is not None:
        run.meter.tell(None)
    whole.flush()
    found, trial = searching.chosen(run), trials.training(best)
    for training in seeds.trainings(found):
        if not _is_finished(training) and searching.take(training, trial):
            _take(training, trial, prepared)
            whole.enter(Stage.TRAINING)
    return found


def _take(run: runs.Run, best: runs.Run, prepared: _Prepared) -> None:
    """Write what `_train` would, for a training that was already done as a trial."""
    from pelagos_pipelines.training import event_files
    from pelagos_pipelines.training.training_history import TrainingHistory

    tracker = run.tracker()
    _describe(run, tracker, prepared.applied(run.request))
    history = TrainingHistory(run.history, tracker)
    history.send()
    event_files.write(run.events / names.TRAINING, event_files.of_training(history.epochs))
    tracker.file(run.events / names.TRAINING, names.FOLDER)
    if best.finished(starting.STATE):
        run.note(starting.STATE, best.read(starting.STATE))
    state = best.read(STEP)
    tracker.describe(starting.described(best), {CHECKPOINT_SHA256_TAG: state["bestSha256"]})
    tracker.file(run.best(state["bestSha256"]), "checkpoint")
    if run.part is None:
        trackers.told(run.meter, tracker)
    tracker.flush()
    run.finish(STEP, state)


def _is_finished(run: runs.Run) -> bool:
    """Whether an attempt of this run has finished the training, and its best checkpoint is unaltered."""
    if not run.finished(STEP):
        return False
    try:
        run.best(run.read(STEP)["bestSha256"])
    except (RefusedError, KeyError):
        return False
    return True


@dataclass(frozen=True)
class _Prepared:
    """The common input of a run's trainings: the request with its dataset on this machine, ground truth, family, checkpoint."""

    request: TrainingRequest
    known: GroundTruth
    family: Family
    start: starting.Start

    def applied(self, request: TrainingRequest) -> dict[str, str]:
        """The augmentation and the repeats of training images, in words; see `_applied`."""
        return _applied(self.known, self.family, request.hyperparameters)


def _prepare(run: runs.Run, *splits: Split) -> _Prepared:
    from pelagos_pipelines.evaluation import fields, ground_truth
    from pelagos_pipelines.training.families import family_of

    request = run.with_dataset(*(splits or ("train", "validation")))
    known = ground_truth.read(request, check_content=True)
    family = family_of(request)
    _require_heeded(known, family)
    fields.require(known.samples("test"), request.evaluation.slices or [])
    return _Prepared(request, known, family, starting.Start(run))


def _train(
    run: runs.Run,
    prepared: _Prepared,
    after: Callable[[Epoch], None],
    begin: Callable[[], None],
    *,
    is_trial: bool = False,
    beside: SideBySide | None = None,
) -> None:
    """Train one training. Calls ``begin`` before the first epoch and ``after`` after each, which may raise to end the training.

    ``beside`` is given if other trainings run concurrently.
    """
    from pelagos_pipelines.training import event_files
    from pelagos_pipelines.training.families import Job
    from pelagos_pipelines.training.training_history import TrainingHistory

    run.checkpoints.mkdir(parents=True, exist_ok=True)
    # Done before history and checkpoints are read, because a family continues from them without checking their origin.
    run.forget_strangers()
    start = prepared.start.of(run)
    tracker = run.tracker()
    applied = prepared.applied(run.request)
    _describe(run, tracker, applied)
    wandb = trackers.wandb_of(run, parameters(run.request) | applied, is_trial=is_trial)
    if beside is None:
        run.meter.tell(tracker.metrics)

    events, sent = run.events / names.TRAINING, time.monotonic()

    def keep() -> bool:
        nonlocal sent
        after(history.epochs[-1])
        event_files.write(events, event_files.of_training(history.epochs))
        starting.note(run)
        if not run.keep_epoch():
            return False
        if time.monotonic() - sent > _EVENTS_SECONDS:
            tracker.file(events, names.FOLDER)
            sent = time.monotonic()
        wandb.offer(history.epochs)
        return True

    shown = sum(sample.repeats for sample in prepared.known.samples("train"))
    history = TrainingHistory(run.history, tracker, keep, shown)
    begin()
    request = run.request.model_copy(update={"dataset": prepared.request.dataset})
    job = Job(request, prepared.known, run.checkpoints, start)
    keeping = nullcontext() if is_trial else _keeping_what_there_is(run, history, tracker)
    try:
        with keeping:
            number = beside.train(run, job, history) if beside else prepared.family.train(job, history)
    except (RefusedError, searching.PrunedError) as error:
        if beside is None:
            run.meter.tell(None)
        if is_trial:
            history.send()
            tracker.end("KILLED" if isinstance(error, searching.PrunedError) else "FAILED")
            tracker.flush()
        raise
    followed = _Followed(tracker, wandb, history, is_metered=beside is None)
    _leave(run, prepared, followed, number, is_trial=is_trial)


@dataclass(frozen=True)
class _Followed:
    """The trackers and the history of a training. ``is_metered``: it has the machine to itself, and reports its load."""

    tracker: Tracker
    wandb: WandbRun
    history: TrainingHistory
    is_metered: bool


def _leave(run: runs.Run, prepared: _Prepared, followed: _Followed, number: int, *, is_trial: bool) -> None:
    """Copy the training to safe storage and to MLflow, and mark it as finished. Epoch ``number`` was the best."""
    from pelagos_pipelines.training import event_files

    tracker, history, events = followed.tracker, followed.history, run.events / names.TRAINING
    # Written again, because an earlier process may have ended between the last checkpoint and its event file.
    event_files.write(events, event_files.of_training(history.epochs))
    # The storage may have been unavailable after the last epochs. They are sent to MLflow only once they are safe.
    starting.note(run)
    run.keep()
    history.send()
    best_sha256 = sealing.digest_of(run.checkpoints / "best.pt")
    tracker.describe(starting.described(run), {CHECKPOINT_SHA256_TAG: best_sha256})
    if not is_trial:
        # Other trainings may start from this artifact, see remote_weights.
        tracker.file(run.best(best_sha256), "checkpoint")
    tracker.file(events, names.FOLDER)
    if followed.is_metered:
        run.meter.tell(None)
    if run.part is None:
        trackers.told(run.meter, tracker)
    followed.wandb.finish(tracker, history.epochs)  # failures are reported by the evaluation, with the rest
    if is_trial:
        tracker.end("FINISHED")
    # The training counts as finished only once MLflow has everything. If this fails, the next attempt finds all epochs done.
    tracker.flush()
    best = next(epoch for epoch in history.epochs if epoch.number == number)
    state = {"epochs": len(history.epochs), "bestEpoch": best.number, "metrics": best.metrics}
    state["applied"] = prepared.applied(run.request)
    state["warnings"] = starting.warnings(run)
    run.finish(STEP, state | {"bestSha256": best_sha256})
    if run.part is not None:
        _forget_unneeded(run)


def _forget_unneeded(run: runs.Run) -> None:
    """Remove the checkpoints that a finished training no longer needs: with many trainings they would fill the storage."""
    for path in run.checkpoints.rglob("*"):
        if path.is_file() and path.name.strip(".").split(".")[0] != "best":
            path.unlink()


@contextmanager
def _keeping_what_there_is(run: runs.Run, history: TrainingHistory, tracker: Tracker) -> Iterator[None]:
    """If the training fails after some epochs, report the metrics of the best one, and wait until MLflow has all epochs."""
    from pelagos_pipelines.training.tracking import TrackingError

    try:
        yield
    except (RefusedError, disk.FullError):
        if (best := history.best(run.request.task)) is not None:
            name = "" if run.part is None else f" of {run.part.name}"
            ended = f"the training{name} ended in epoch {history.told + 1}"
            words = f"{ended}: figures are those of epoch {best.number}, its best one"
            run.measured.update(metrics=best.metrics, warnings=[words])
            with suppress(TrackingError):  # the refusal is what the person must know
                tracker.flush()
        raise


def _require_heeded(known: GroundTruth, family: Family) -> None:
    """Refuse a dataset that declares something which the family does not support: its models would silently ignore it."""
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
    """The augmentation of training images, and how often an epoch shows them, for the training's record."""
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


def parameters(request: TrainingRequest) -> dict[str, str]:
    """The training's parameters, for its record in every tracker."""
    dataset = request.dataset
    found = request.hyperparameters.model_dump(by_alias=True, exclude_none=True) | {
        "architecture": request.model.architecture,
        "task": request.task.value,
        "seed": ", ".join(map(str, request.seeds)) or request.seed,
        "dataset": dataset.name,
        "datasetVersion": dataset.version,
        "earlyStoppingPatience": request.early_stopping.patience if request.early_stopping else "none",
        "weights": (request.model.weights.place if request.model.weights else "none")[:_LONGEST],
    }
    return {name: str(value) for name, value in found.items()}


def _processes(request: TrainingRequest) -> str:
    """The number of processes that share the training in this attempt."""
    from pelagos_pipelines.training import processes
    from pelagos_pipelines.training.families import offered

    return str(processes.wanted(request) if offered(request).description.several_gpus else 1)


def _describe(run: runs.Run, tracker: Tracker, applied: Mapping[str, str]) -> None:
    """Record parameters, environment and lineage: enough to repeat the run, and to identify its inputs."""
    from pelagos_pipelines.preparation.judging import kept
    from pelagos_pipelines.training import environment
    from pelagos_pipelines.training.families import offered
    from pelagos_pipelines.training.tracking import DatasetUse

    dataset = run.request.dataset
    if run.part is not None:  # the rest is recorded with the run above it
        tracker.describe(parameters(run.request), {})
        tracker.dataset(DatasetUse(dataset.name, dataset.version, dataset.uri, "training"))
        return
    listing = run.workspace / "packages.txt"
    tags = environment.record(listing, offered(run.request).packages)
    tags[f"{ENVIRONMENT_TAGS}processes"] = _processes(run.request)
    if "balance.strategy" in applied:
        tags |= {BALANCE_TAG: f"{applied['balance.strategy']} to {applied['balance.target']}"}
    tracker.describe(parameters(run.request) | dict(applied), tags)
    tracker.dataset(DatasetUse(dataset.name, dataset.version, dataset.uri, "training"))
    tracker.file(listing, "environment")
    for file in kept.find(dataset.uri, run.places.scratch / "judged"):
        tracker.file(file, "dataset")
