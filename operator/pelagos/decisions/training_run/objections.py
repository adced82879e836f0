"""What prevents an attempt that is due, or ends a run in progress. attempt.OBJECTIONS lists them in order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pelagos.api import reasons
from pelagos.decisions import durations
from pelagos.decisions.attempts import Outcome
from pelagos.decisions.training_run import champions, judgeable, registration, tenancy
from pelagos.decisions.training_run.conditions import DATASET_POLL, EVALUATED, GATES_PASSED
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict, obstacle
from pelagos.ports.pipelines import FINISHED, RunState
from pelagos_contract.families import SCHEDULING, by_architecture
from pelagos_contract.tasks import TASKS

if TYPE_CHECKING:
    from pelagos_contract.search import Search


def deadline_exceeded(seen: Observed, judged: Outcome) -> Outcome | None:
    """A run that takes longer than spec.deadline is ended, and not tried again unless a person asks."""
    if judged.succeeded or not _is_late(seen):
        return None
    message = f"spec.deadline: the run took longer than {seen.spec.deadline} and was ended. Raise it, and set pelagos.dev/retry"
    refused = Verdict(EVALUATED, ConditionState.REFUSED, reasons.DEADLINE_EXCEEDED, message)
    return Outcome(refused, recheck_after=None)


def attempt_futile(seen: Observed, judged: Outcome) -> Outcome | None:
    """No further attempt while it is known that it would fail, or its result could not be judged."""
    why = futile(seen) or unjudgeable(seen)
    if why is None or judged.attempt is None:
        return None
    return Outcome(replace(why, type=EVALUATED), recheck_after=DATASET_POLL)


def limits_exceeded(seen: Observed, judged: Outcome) -> Outcome | None:
    """No further attempt that exceeds the namespace's limits. A run that exists was allowed when submitted, and stays."""
    excess = tenancy.excess(seen)
    if excess is None or not (judged.withdraw or judged.attempt is not None):
        return None
    message, state = excess.message, ConditionState.REFUSED
    if judged.withdraw:
        message, state = f"{message}. The waiting run is left as it is", ConditionState.FAILING
    return Outcome(Verdict(EVALUATED, state, excess.reason, message), recheck_after=DATASET_POLL)


def futile(seen: Observed) -> Verdict | None:
    """Why a training would fail, if that is known beforehand; else None."""
    weights = seen.spec.model.weights
    if weights is not None and seen.weights_missing:
        message = (
            f'spec.{weights.field}: "{weights.on_volume}" does not exist yet on the data volume. Put the file there'
        )
        return obstacle(EVALUATED, reasons.CHECKPOINT_NOT_FOUND, message)
    if (unheeded := _unheeded(seen)) is not None:
        return obstacle(EVALUATED, reasons.INVALID_SPEC, unheeded)
    return registration.other_owner(seen)


def unjudgeable(seen: Observed) -> Verdict | None:
    """Why no model could pass the gates, if that is known beforehand; else None."""
    reason, lacking = (
        reasons.GATE_METRIC_UNKNOWN,
        judgeable.objection(seen.spec, seen.spec.dataset_ref.name, seen.classes),
    )
    if lacking is None:
        reason, lacking = reasons.CHAMPION_NOT_COMPARABLE, champions.objection(seen)
    if lacking is None:
        return None
    return obstacle(GATES_PASSED, reason, f"{lacking}. Correct spec.gates; nothing is trained until then")


def _unheeded(seen: Observed) -> str | None:
    """A message about the first setting that the architecture's family would ignore, or cannot follow; None if there is none."""
    architecture, gpus = seen.spec.model.architecture, seen.spec.resources.gpus
    family, asked = by_architecture()[architecture], seen.spec.hyperparameters
    values = asked.model_dump(by_alias=True)
    for name in () if family.schedules else SCHEDULING:
        if values[name] is not None:
            return f"spec.hyperparameters.{name}: trainings of {architecture} do not use it; leave it out"
    field = seen.spec.evaluation.sureness
    if field is not None and not TASKS[family.task].calibrated:
        return (
            f"spec.evaluation.{field}: the scores of models that {TASKS[family.task].verb} ({architecture}) do not say how often"
            " they are right, and servers would ignore it; leave it out"
        )
    if gpus > 1 and not family.several_gpus:
        return f"spec.resources.gpus is {gpus}, and trainings of {architecture} use one GPU; set it to 1"
    if gpus > 1 and asked.batch_size < gpus:
        return (
            f"spec.resources.gpus is {gpus}, and the GPUs share the {asked.batch_size} images of a batch "
            f"(spec.hyperparameters.batchSize); set it to {asked.batch_size} at most"
        )
    return None if seen.spec.search is None else _untriable(seen.spec.search, gpus, asked.warmup_epochs or 0)


def _untriable(search: Search, gpus: int, warmup: int) -> str | None:
    """A message about the first part of spec.search that trials could not be trained with; None if there is none."""
    batch, epochs = search.space.batch_size, search.space.epochs
    if batch is not None and (fewest := batch.minimum or min(batch.values or (gpus,))) < gpus:
        return (
            f"spec.resources.gpus is {gpus}, and the GPUs would share {fewest} images of a batch in some trials "
            f"(spec.search.space.batchSize); search from {gpus} images on, or set it to {fewest} at most"
        )
    if epochs is not None:
        field, shortest = "spec.search.space.epochs", epochs.minimum or min(epochs.values or (warmup + 1,))
    else:
        field, shortest = "spec.search.epochs", search.epochs or warmup + 1
    if shortest <= warmup:
        return (
            f"{field}: trials of {shortest} epochs would end before the learning rate has risen in {warmup} of them "
            f"(spec.hyperparameters.warmupEpochs); set more epochs than that, or fewer warm-up epochs"
        )
    return None


def _is_late(seen: Observed) -> bool:
    if seen.run is None or seen.run.started_at is None or seen.run.state is RunState.SUCCEEDED:
        return False
    if seen.run.state in FINISHED and seen.run.retry_key != seen.retry_key:  # Another attempt is about to begin.
        return False
    since_start = (seen.run.finished_at or seen.now) - seen.run.started_at
    ran = seen.run.ran if seen.run.ran is not None else since_start
    return ran >= max(durations.parse(seen.spec.deadline), timedelta(seconds=1))
