"""The tracked run: one per TrainingRun, created before the pipeline run, which writes to it. It shows that run's outcome."""

from __future__ import annotations

import json

from pelagos.api import reasons
from pelagos.api.training_run import TrackingStatus, TrainingRunStatus
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import CreateTrackedRun, Effect, SealTrackedRun, SetOutcome
from pelagos.decisions.training_run import attempt
from pelagos.decisions.training_run.conditions import OUTAGE_POLL, TRACKED
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports import tracking
from pelagos.ports.pipelines import FINISHED
from pelagos_contract.tags import DATASET_TAG, INPUTS_DIGEST_TAG, INPUTS_TAG, RESOURCE_TAG, SEAL_TAG, STORAGE_TAG


def unavailable_before_a_run(seen: Observed) -> Ended | None:
    """Ends the chain while MLflow does not answer and nothing has started: it may have a tracked run with frozen inputs."""
    if not _is_needed(seen) or seen.tracking_outage is None:
        return None
    unknown = Verdict(TRACKED, ConditionState.UNKNOWN, reasons.TRACKING_UNAVAILABLE, seen.tracking_outage)
    return Ended((unknown,), status=seen.frozen_status(), recheck_after=OUTAGE_POLL)


def missing_before_a_run(seen: Observed) -> Ended | None:
    """Ends the chain if there is no tracked run, and creates it first: the pipeline run gets its id."""
    if not _is_needed(seen):
        return None
    message = "the tracked run is being created"
    creating = Verdict(TRACKED, ConditionState.PROGRESSING, reasons.CREATING, message)
    return Ended((creating,), (CreateTrackedRun(wanted(seen)),), recheck_after=0)


def missing(seen: Observed) -> Passed | None:
    """Notes that the tracked run was deleted, or that MLflow does not answer. A training in progress continues anyway."""
    if seen.tracked is not None:
        return None
    reason = reasons.TRACKING_UNAVAILABLE if seen.tracking_outage else reasons.TRACKED_RUN_MISSING
    message = seen.tracking_outage or "no tracked run under our seal exists any more"
    return Passed((Verdict(TRACKED, ConditionState.NOTED, reason, message),))


def found(seen: Observed) -> Passed | None:
    """Tracked. Status keeps the run's id under our seal, by which it is found again even if others alter MLflow."""
    if seen.tracked is None:
        return None
    created = Verdict(TRACKED, ConditionState.DONE, reasons.RUN_CREATED, f"MLflow run {seen.tracked.id}")
    tracking = TrackingStatus(
        experiment=seen.tracked.experiment, run=seen.tracked.id, url=seen.tracked.url, seal=seen.tracked_seal
    )
    return Passed((created,), status=TrainingRunStatus(tracking=tracking))


def outcome_differs(seen: Observed) -> Passed | None:
    """Corrects the outcome and the seal of the tracked run, if they differ from the pipeline run's and the present key's."""
    if seen.tracked is None:
        return None
    want = _outcome(seen)
    effects: list[Effect] = []
    if seen.tracked.tags.get(SEAL_TAG, "") != seen.tracked_seal:
        effects.append(SealTrackedRun(seen.tracked.id, seen.tracked_seal))
    if seen.tracked.outcome is not want:
        effects.append(SetOutcome(seen.tracked.id, want))
    return Passed(effects=tuple(effects))


def wanted(seen: Observed) -> tracking.DesiredTrackedRun:
    """The desired tracked run for the inputs."""
    inputs = seen.keyed
    return tracking.DesiredTrackedRun(
        uid=seen.uid,
        experiment=_experiment(seen),
        name=seen.name,
        tags={
            INPUTS_DIGEST_TAG: inputs.digest,
            INPUTS_TAG: json.dumps(inputs.inputs, sort_keys=True),
            DATASET_TAG: json.dumps(inputs.dataset.as_status(), sort_keys=True),
            STORAGE_TAG: seen.tenant.storage_prefix,
            RESOURCE_TAG: f"trainingrun/{seen.namespace}/{seen.name}",
        },
        namespace=seen.namespace,
    )


def _is_needed(seen: Observed) -> bool:
    """Whether a tracked run must exist before anything else: nothing has started that could continue without one."""
    return seen.tracked is None and seen.run is None and seen.report.result is None


def _experiment(seen: Observed) -> str:
    """The experiment that spec names, or the default one, with the namespace's prefix unless it has that already."""
    prefix = seen.tenant.experiment_prefix
    named = seen.spec.tracking.experiment or f"{seen.namespace}/{seen.keyed.dataset.name}"
    return named if named.startswith(prefix) else prefix + named


def _outcome(seen: Observed) -> tracking.Outcome:
    outcome = attempt.outcome(seen)
    if outcome.succeeded:
        return tracking.Outcome.FINISHED
    if not outcome.verdict.is_stuck:
        return tracking.Outcome.RUNNING
    if outcome.verdict.reason == reasons.DEADLINE_EXCEEDED:
        return tracking.Outcome.KILLED
    # The run is only blocked, and the obstacle may disappear. It has not failed before it has ended.
    is_open = seen.run is not None and seen.run.state not in FINISHED
    return tracking.Outcome.RUNNING if is_open else tracking.Outcome.FAILED
