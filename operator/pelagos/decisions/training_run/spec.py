"""Whether spec can be followed: by its rules across fields, and by its frozen part."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.decisions import rules
from pelagos.decisions.chains import Ended
from pelagos.decisions.training_run import identity
from pelagos.decisions.training_run.conditions import DATASET_READY
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract import families
from pelagos_contract.search import metrics_of


def breaks_a_rule(seen: Observed) -> Ended | None:
    """Ends the chain if a rule across fields is broken, which only API servers without CEL admit."""
    broken = rules.violation(seen.spec)
    return Ended((_refused(reasons.INVALID_SPEC, broken),)) if broken else None


def search_by_unknown_metric(seen: Observed) -> Ended | None:
    """Ends the chain if the search's metric is not measured: which metrics are depends on the architecture's task."""
    search, architecture = seen.spec.search, seen.spec.model.architecture
    allowed = metrics_of(families.by_architecture()[architecture].task)
    if search is None or search.metric is None or search.metric in allowed:
        return None
    message = (
        f"spec.search.metric: {search.metric} is not measured for {architecture} after each epoch; allowed: "
        f"{', '.join(allowed)}. Create a new TrainingRun with one of them, or without it"
    )
    return Ended((_refused(reasons.INVALID_SPEC, message),))


def says_other_than_frozen(seen: Observed) -> Ended | None:
    """Ends the chain if spec differs from the frozen inputs, which the training uses."""
    changed = identity.changed(seen.frozen, seen.spec) if seen.frozen is not None else None
    return Ended((_refused(reasons.SPEC_IMMUTABLE, changed),), status=seen.frozen_status()) if changed else None


def _refused(reason: reasons.Reason, message: str) -> Verdict:
    return Verdict(DATASET_READY, ConditionState.REFUSED, reason, message)
