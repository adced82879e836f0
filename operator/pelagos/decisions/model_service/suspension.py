"""Stops the endpoint if spec.suspend asks for it."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.api.model_service import ModelServiceStatus
from pelagos.decisions.chains import Ended
from pelagos.decisions.effects import StopService
from pelagos.decisions.model_service.conditions import MODEL_LOADED
from pelagos.decisions.model_service.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict


def suspended(seen: Observed) -> Ended | None:
    """Ends the chain if spec.suspend is set, and stops the servers, whether there is a model or not."""
    if not seen.spec.suspend:
        return None
    message = "spec.suspend is true; set it to false to continue"
    paused = Verdict(MODEL_LOADED, ConditionState.PAUSED, reasons.SUSPENDED, message)
    runs = seen.service is not None and not seen.service.is_stopped
    effects = (StopService(seen.uid),) if runs else ()
    replicas = seen.service.replicas if seen.service is not None else 0
    status = ModelServiceStatus(url=None, endpoints=None, served_generation=None, replicas=replicas)
    return Ended((paused,), effects, status)
