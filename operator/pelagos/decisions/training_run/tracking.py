"""The tracked run: one per TrainingRun, made before the pipeline run, which writes to it; it tells how that stands."""

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
    """An earlier pass may have frozen other inputs in a tracked run that cannot be seen now."""
    if not _is_needed(seen) or seen.tracking_outage is None:
        return None
    unknown = Verdict(TRACKED, ConditionState.UNKNOWN, reasons.TRACKING_UNAVAILABLE, seen.tracking_outage)
    return Ended((unknown,), status=seen.frozen_status(), recheck_after=OUTAGE_POLL)


def missing_before_a_run(seen: Observed) -> Ended | None:
    """It is made first: a pipeline run is given its id."""
    if not _is_needed(seen):
        return None
    message = "the tracked run is being created"
    creating = Verdict(TRACKED, ConditionState.PROGRESSING, reasons.CREATING, message)
    return Ended((creating,), (CreateTrackedRun(wanted(seen)),), recheck_after=0)


def missing(seen: Observed) -> Passed | None:
    """Deleted, or not to be seen now: a training that runs goes on all the same."""
    if seen.tracked is not None:
        return None
    reason = reasons.TRACKING_UNAVAILABLE if seen.tracking_outage else reasons.TRACKED_RUN_MISSING
    message = seen.tracking_outage or "there is no tracked run under our seal any more"
    return Passed((Verdict(TRACKED, ConditionState.NOTED, reason, message),))


def found(seen: Observed) -> Passed | None:
    """Status keeps its id under our seal, by which it is found again whatever others write to MLflow."""
    if seen.tracked is None:
        return None
    created = Verdict(TRACKED, ConditionState.DONE, reasons.RUN_CREATED, f"MLflow run {seen.tracked.id}")
    tracking = TrackingStatus(
        experiment=seen.tracked.experiment, run=seen.tracked.id, url=seen.tracked.url, seal=seen.tracked_seal
    )
    return Passed((created,), status=TrainingRunStatus(tracking=tracking))


def outcome_differs(seen: Observed) -> Passed | None:
    """The tracked run must tell the same as the pipeline run, and carry a seal under the present key."""
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
    """The tracked run for the inputs."""
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
    """Whether nothing was begun that could go on without one."""
    return seen.tracked is None and seen.run is None and seen.report.result is None


def _experiment(seen: Observed) -> str:
    """The experiment that spec names, or the usual one; below the prefix of the namespace, once."""
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
    # What stands in the way of a run may go away: nothing has failed before the run has.
    is_open = seen.run is not None and seen.run.state not in FINISHED
    return tracking.Outcome.RUNNING if is_open else tracking.Outcome.FAILED
