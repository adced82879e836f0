"""Which attempt of the pipeline run is due, and what prevents one."""

from __future__ import annotations

from collections.abc import Callable

from pelagos.api import reasons
from pelagos.decisions import attempts
from pelagos.decisions.attempts import Outcome
from pelagos.decisions.training_run import champions, objections
from pelagos.decisions.training_run.conditions import EVALUATED
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict

OBJECTIONS: tuple[Callable[[Observed, Outcome], Outcome | None], ...] = (
    objections.deadline_exceeded,  # DeadlineExceeded: ends the run
    objections.limits_exceeded,  # GpuLimitExceeded, QueueNotAllowed: no attempt, and a waiting run is not withdrawn for one
    objections.attempt_futile,  # CheckpointNotFound, InvalidSpec, ModelOwnedByOtherNamespace, GateMetricUnknown: no attempt
)
"""Each may replace the outcome that decisions/attempts.judge arrives at; the first that does counts."""


def outcome(seen: Observed) -> Outcome:
    """What to do about the pipeline run."""
    judged = attempts.judge(EVALUATED, seen.run, seen.report, retry_key=seen.retry_key, now=seen.now)
    if judged.succeeded and seen.run is not None and champions.are_outdated(seen):
        message = (
            "another version has become the champion since then; the model is compared with it, and nothing is trained"
        )
        comparing = Verdict(EVALUATED, ConditionState.PROGRESSING, reasons.COMPARING, message)
        judged = Outcome(comparing, attempt=seen.run.attempt + 1)
    judged = attempts.moved(judged, seen.run, seen.spec.priority or seen.tenant.priority)
    for objection in OBJECTIONS:
        instead = objection(seen, judged)
        if instead is not None:
            return instead
    return judged
