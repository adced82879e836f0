"""Which model to serve. The last one stays served while its reference cannot be resolved: users of the endpoint come first."""

from __future__ import annotations

from dataclasses import replace

from pelagos.api import reasons
from pelagos.decisions import limits, rules
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.model_service.conditions import MODEL_POLL, MODEL_RESOLVED
from pelagos.decisions.model_service.observed import Observed, ResolvedModel, Unresolved, reference
from pelagos.decisions.verdicts import ConditionState, Verdict, obstacle


def excess(seen: Observed) -> limits.Excess | None:
    """The limit of the namespace that spec exceeds; None when it exceeds none."""
    return limits.exceeded(seen.spec.resources.gpus, None, seen.tenant, replicas=seen.spec.scaling.most)


def spec_breaks_a_rule(seen: Observed) -> Ended | None:
    """Ends the chain if a rule across fields is broken, which only API servers without CEL admit."""
    broken = rules.violation(seen.spec)
    if broken is None:
        return None
    return Ended((Verdict(MODEL_RESOLVED, ConditionState.REFUSED, reasons.INVALID_SPEC, broken),))


def limits_exceeded_before_a_service(seen: Observed) -> Ended | None:
    """Ends the chain before anything is started that exceeds the limits. change.limits_exceeded judges changes of a service."""
    found = excess(seen)
    if found is None or seen.service is not None:
        return None
    refused = Verdict(MODEL_RESOLVED, ConditionState.REFUSED, found.reason, found.message)
    return Ended((refused,), recheck_after=MODEL_POLL)


def unresolved(seen: Observed) -> Ended | None:
    """Ends the chain if there is no model, and no earlier one that could stay served in the meantime."""
    if isinstance(seen.model, ResolvedModel) or (seen.last_model is not None and seen.service is not None):
        return None
    return Ended((_obstacle(seen.model),), recheck_after=MODEL_POLL)


def resolved(seen: Observed) -> Passed | None:
    """ModelResolved: the model that spec names exists, and may be served."""
    if isinstance(seen.model, Unresolved):
        return None
    return Passed((Verdict(MODEL_RESOLVED, ConditionState.DONE, reasons.RESOLVED, seen.model.source),))


def last_one_kept(seen: Observed) -> Passed | None:
    """ModelResolved, while the last model stays served. Blocks Ready only if spec names another model than that."""
    if isinstance(seen.model, ResolvedModel):
        return None
    kept = _obstacle(seen.model)
    kept = replace(kept, message=f"{kept.message}; the last model is still served")
    if seen.last_reference == reference(seen.spec):
        kept = replace(kept, state=ConditionState.NOTED)
    return Passed((kept,))


def _obstacle(found: Unresolved) -> Verdict:
    return obstacle(MODEL_RESOLVED, found.reason, found.message)
