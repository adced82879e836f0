"""Deletes a TrainingRun some time after it has finished, by spec.ttlSecondsAfterFinished."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pelagos.api import kinds
from pelagos.decisions.effects import DeleteResource
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Decision, summary
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import FINISHED

SERVED_POLL = 60.0
"""Seconds between two checks while a ModelService refers to it."""
_OVER = (ConditionState.DONE, ConditionState.REFUSED)


def expiring(seen: Observed, decision: Decision) -> Decision:
    """The decision, with the deletion of the resource added, or a pass when that is due.

    Time counts from the end of the pipeline run. A TrainingRun that found its result on record has no run, and stays: a GitOps
    tool that applies a deleted TrainingRun again would otherwise see it created and deleted forever.
    """
    run, allowed = seen.run, seen.spec.ttl_seconds_after_finished
    if allowed is None or run is None or run.state not in FINISHED or run.finished_at is None:
        return decision
    if summary(decision).state not in _OVER or decision.effects:
        return decision  # Another attempt is due, or something has yet to be put on record.
    left = (run.finished_at + timedelta(seconds=allowed) - seen.now).total_seconds()
    if left <= 0 and seen.served_by:
        left = SERVED_POLL
    if left > 0:
        pause = left if decision.recheck_after is None else min(left, decision.recheck_after)
        return replace(decision, recheck_after=pause)
    why = f"it had been over for {allowed} s (spec.ttlSecondsAfterFinished)"
    key = Key(kinds.TRAINING_RUN.kind, seen.namespace, seen.name)
    return replace(decision, effects=(DeleteResource(key, seen.uid, why),))
