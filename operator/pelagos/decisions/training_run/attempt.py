"""Which attempt of the pipeline run is due, and what speaks against one."""

from __future__ import annotations

from collections.abc import Callable

from pelagos.decisions import attempts
from pelagos.decisions.attempts import Outcome
from pelagos.decisions.training_run import objections
from pelagos.decisions.training_run.conditions import EVALUATED
from pelagos.decisions.training_run.observed import Observed

OBJECTIONS: tuple[Callable[[Observed, Outcome], Outcome | None], ...] = (
    objections.deadline_exceeded,  # DeadlineExceeded: what runs is ended
    objections.limits_exceeded,  # GpuLimitExceeded, QueueNotAllowed: no attempt, and none that waits is withdrawn for one
    objections.attempt_futile,  # CheckpointNotFound, InvalidSpec, ModelOwnedByOtherNamespace, GateMetricUnknown: no attempt
)
"""What speaks against what decisions/attempts.judge says of the run; the first that does replaces it."""


def outcome(seen: Observed) -> Outcome:
    """What to do about the pipeline run."""
    judged = attempts.judge(EVALUATED, seen.run, seen.report, retry_key=seen.retry_key, now=seen.now)
    judged = attempts.moved(judged, seen.run, seen.spec.priority or seen.tenant.priority)
    for objection in OBJECTIONS:
        instead = objection(seen, judged)
        if instead is not None:
            return instead
    return judged
