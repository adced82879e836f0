"""Whether the namespace may have what spec asks for."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.decisions import limits
from pelagos.decisions.chains import Ended
from pelagos.decisions.training_run.conditions import DATASET_POLL, DATASET_READY
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict


def excess(seen: Observed) -> limits.Excess | None:
    """The limit of the namespace that spec exceeds; None when it exceeds none."""
    asked = seen.spec.resources
    return limits.exceeded(asked.gpus, asked.queue, seen.tenant, priority=seen.spec.priority)


def limits_exceeded_before_a_run(seen: Observed) -> Ended | None:
    """Ends the chain, before anything is created, if spec exceeds a limit. attempt.OBJECTIONS judge further attempts."""
    found = excess(seen)
    if found is None or seen.run is not None:
        return None
    refused = Verdict(DATASET_READY, ConditionState.REFUSED, found.reason, found.message)
    return Ended((refused,), recheck_after=DATASET_POLL)


def dataset_outside_namespace(seen: Observed) -> Ended | None:
    """Ends the chain if the Dataset's status, or the frozen inputs, name a folder outside the namespace's part of the store."""
    if not seen.outside:
        return None
    refused = Verdict(DATASET_READY, ConditionState.REFUSED, reasons.DATASET_OUTSIDE_NAMESPACE, seen.outside)
    return Ended((refused,), status=seen.frozen_status())
