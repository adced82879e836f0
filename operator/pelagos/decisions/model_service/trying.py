"""How many people may try models of the namespace at once, for the pages of the hub, which may not read tenant settings."""

from __future__ import annotations

from pelagos.api.model_service import ModelServiceStatus, TrialLimits
from pelagos.decisions.chains import Passed
from pelagos.decisions.model_service.observed import Observed


def limits_published(seen: Observed) -> Passed:
    """status.trials. The limits are those by which Trials are admitted (decisions/trial/admission)."""
    tenant = seen.tenant
    if not seen.gateway.is_there:
        return Passed(status=ModelServiceStatus(trials=None))
    if not tenant.trials_enabled:
        return Passed(status=ModelServiceStatus(trials=TrialLimits(per_user=0, at_once=0)))
    limits = TrialLimits(per_user=tenant.trials_per_user, at_once=tenant.trials_at_once)
    return Passed(status=ModelServiceStatus(trials=limits))
