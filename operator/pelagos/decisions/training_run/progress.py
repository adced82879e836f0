"""The progress of a training, from its steps' reports and the tracked run's latest metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pelagos.api.search import BestTrial, SearchStatus, TrialStatus
from pelagos.api.training_run import LeaveOneOutStatus, LeftOutStatus, Progress, SeedStatus, TrainingRunSpec
from pelagos.decisions import moments, stages
from pelagos.decisions.training_run import figures
from pelagos.decisions.training_run.observed import Observed
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tracking import TrackedRun
from pelagos_contract.cost import rounded
from pelagos_contract.progress import Stage
from pelagos_contract.search import SearchProgress, TrialState, planned_epochs
from pelagos_contract.tasks import TASKS

EPOCH_METRIC = "progress/epoch"
PACE_METRIC = "progress/seconds_per_epoch"
RATE_METRIC = "progress/images_per_second"
MEMORY_METRIC = "progress/gpu_memory_bytes"
LOSS = "train/loss"
MOST = 1e6
"""Upper limit of plausible epochs, seconds per epoch and similar numbers: anyone who can write to MLflow can change metrics."""
MOST_BYTES = 2**50
_MAIN = tuple(
    dict.fromkeys(
        f"validation/{name}"
        for name in ("loss", *(n for task in TASKS.values() for n in (task.primary_metric, task.fitness)))
    )
)
"""Main validation metrics of all tasks; a training has those of its task."""
_OF_LAST = ("loss", "metrics", "images_per_second", "gpu_memory")


def progress_of(seen: Observed) -> Progress:
    """The progress for status. For checks that know that there is a run."""
    now = seen.time_of_day or seen.now
    counted = progress(seen.tracked, planned(seen.spec), seen.run, now)
    if counted is None and seen.tracked is None:
        counted = _epochs(seen.stated)
    staged = stages.shown(seen.told, seen.stated, seen.run, now)
    if staged.get("stage") not in {None, Stage.SEARCH, Stage.TRAINING}:
        staged["eta"] = None  # The last epoch has ended, or early stopping skipped the rest.
    return (counted or Progress()).model_copy(update=staged)


def planned(spec: TrainingRunSpec) -> int:
    """The largest possible number of epochs of all trials and trainings together."""
    return sum(planned_epochs(spec.search, spec.hyperparameters.epochs, len(spec.seeds)))


def seeds_of(seen: Observed) -> list[SeedStatus]:
    """The progress of each of several trainings, as the steps report it or, when they report nothing now, as in status."""
    if seen.told is None or seen.told.seeds is None:
        return list(seen.stated_seeds)
    return [
        SeedStatus(
            seed=each.seed,
            state=each.state.value,
            epoch=each.epoch,
            fitness=figures.figure(each.fitness) if each.fitness is not None else None,
        )
        for each in seen.told.seeds
    ]


def search_of(seen: Observed) -> SearchStatus | None:
    """The progress of the search, from sources as in `seeds_of`, so that its findings survive if the run ends at its deadline."""
    if seen.told is None or seen.told.search is None:
        return seen.stated_search
    return search_status(seen.told.search)


def search_status(told: SearchProgress) -> SearchStatus:
    """The progress of a search in its form in status."""
    history = [
        TrialStatus(
            number=trial.number,
            state=trial.state.value,
            parameters=trial.parameters,
            epochs=trial.epochs,
            value=figures.figure(trial.value) if trial.value is not None else None,
            reason=trial.reason,
            message=trial.message,
        )
        for trial in told.history
    ]
    states = [trial.state for trial in told.history]
    best = next((trial for trial in history if trial.number == told.best and trial.value is not None), None)
    return SearchStatus(
        metric=told.metric,
        trials=told.trials,
        finished=len(states) - states.count(TrialState.RUNNING),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAILED),
        best=BestTrial(number=best.number, value=best.value or "", parameters=best.parameters) if best else None,
        history=history or None,
    )


def left_out_of(seen: Observed) -> LeaveOneOutStatus | None:
    """The progress of the models that are each trained without one group, from the same sources as in `seeds_of`."""
    if seen.told is None or seen.told.left_out is None:
        return seen.stated_left_out
    told = seen.told.left_out
    groups = [LeftOutStatus(value=each.value, state=each.state.value, epoch=each.epoch) for each in told.groups]
    return LeaveOneOutStatus(field=told.field, groups=groups)


def searched(found: SearchStatus) -> str:
    """The progress of a search, for messages."""
    best = f"; the best has {found.metric} {found.best.value}" if found.best is not None else ""
    return f"trial {min(found.finished + 1, found.trials)} of {found.trials}{best}"


def registering(seen: Observed) -> Progress:
    """The progress while the operator registers the model: a stage that began when the run ended."""
    ended = seen.run.finished_at if seen.run is not None else None
    since = _registering_since(seen) or ended or seen.time_of_day or seen.now
    made = progress_of(seen)
    return made.model_copy(update={"stage": Stage.REGISTRATION.value, "stage_since": moments.timestamp(since)})


def registered(seen: Observed) -> Progress | None:
    """The progress with the duration of the registration, if the model has just been registered; else None."""
    since = _registering_since(seen)
    if since is None:
        return None
    made = progress_of(seen)
    took = max(((seen.time_of_day or seen.now) - since).total_seconds(), 0)
    ended = [*(made.stages or ()), stages.ended_stage(Stage.REGISTRATION, took)]
    return made.model_copy(update={"stages": ended})


def progress(tracked: TrackedRun | None, epochs: int, run: PipelineRun | None, now: datetime) -> Progress | None:
    """The number of epochs done, the figures of the last one, and the estimated end of all; None when not known.

    The estimate is in whole minutes, so that not every pass changes status.
    """
    if tracked is None or run is None:
        return None
    epoch = tracked.metrics.get(EPOCH_METRIC, math.nan)
    if not 0 <= epoch <= MOST:
        return None
    done = int(epoch)
    pace, eta = tracked.metrics.get(PACE_METRIC, math.nan), None
    if 0 < pace <= MOST and run.finished_at is None and done < epochs:
        minutes = math.ceil((now.timestamp() + pace * (epochs - done)) / 60)
        eta = moments.timestamp(datetime.fromtimestamp(minutes * 60, UTC))
    last = _of_last_epoch(tracked.metrics)
    return Progress(epoch=done, epochs=epochs, percent=min(100, done * 100 // epochs), eta=eta, **last)


def _registering_since(seen: Observed) -> datetime | None:
    stated = seen.stated
    return moments.parse(stated.stage_since) if stated is not None and stated.stage == Stage.REGISTRATION else None


def _epochs(stated: Progress | None) -> Progress | None:
    """The part of the progress in status that is about epochs."""
    if stated is None:
        return None
    return Progress.model_validate(stated.model_dump(include={"epoch", "epochs", "percent", *_OF_LAST}))


def _of_last_epoch(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Figures of the last epoch. They change only together with its number, so that they cause no additional patch of status."""
    figures = {name: _figure(metrics.get(name, math.nan)) for name in (LOSS, *_MAIN)}
    rate, memory = (metrics.get(name, math.nan) for name in (RATE_METRIC, MEMORY_METRIC))
    return {
        "loss": figures.pop(LOSS),
        "metrics": {name: figure for name, figure in figures.items() if figure is not None} or None,
        "images_per_second": rounded(rate) if 0 < rate <= MOST else None,
        "gpu_memory": f"{memory / 2**30:.1f}Gi" if 0 < memory <= MOST_BYTES else None,
    }


def _figure(value: float) -> str | None:
    return f"{value:.4f}" if abs(value) <= MOST else None
