"""spec.suspend stops the endpoint; resuming starts it again."""

from __future__ import annotations

import builders
from builders import RIGHT, make_service, make_service_observed
from pelagos.api import reasons
from pelagos.decisions import model_service
from pelagos.decisions.effects import RemoveService
from pelagos.decisions.model_service.observed import Unresolved
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.serving import ServiceState

SUSPENDED = builders.model_service_spec(suspend=True)


def test_the_endpoint_is_stopped_and_its_address_taken_back() -> None:
    seen = make_service_observed(spec=SUSPENDED, service=make_service(ServiceState.LOADED), probe=RIGHT)

    decision = model_service.decide(seen)

    assert decision.effects == (RemoveService("uid-3"),)
    assert (decision.status["url"], decision.status["endpoints"]) == (None, None)
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.PAUSED, "Suspended")


def test_once_stopped_there_is_nothing_to_do() -> None:
    decision = model_service.decide(make_service_observed(spec=SUSPENDED))

    assert (decision.effects, decision.recheck_after) == ((), None)


def test_a_model_that_is_not_there_does_not_matter_then() -> None:
    decision = model_service.decide(
        make_service_observed(spec=SUSPENDED, model=Unresolved(reasons.TRAINING_RUN_NOT_FOUND, "there is none"))
    )

    assert summary(decision).state is ConditionState.PAUSED
