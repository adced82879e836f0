"""spec.suspend stops the endpoint; resuming starts it again."""

from __future__ import annotations

from dataclasses import replace

import builders
from builders import RIGHT, make_service, make_service_observed
from pelagos.api import reasons
from pelagos.decisions import model_service
from pelagos.decisions.effects import ApplyService, StopService
from pelagos.decisions.model_service.observed import Unresolved
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.serving import ServiceState

SUSPENDED = builders.model_service_spec(suspend=True)


def test_the_endpoint_is_stopped_and_its_address_taken_back() -> None:
    seen = make_service_observed(spec=SUSPENDED, service=make_service(ServiceState.LOADED), probe=RIGHT)

    decision = model_service.decide(seen)

    assert decision.effects == (StopService("uid-3"),)
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


def test_what_is_stopped_and_kept_is_left_alone_and_started_again_afterwards() -> None:
    kept = replace(make_service(ServiceState.ENDED), is_stopped=True)

    decision = model_service.decide(make_service_observed(spec=SUSPENDED, service=kept))

    assert decision.effects == ()
    assert summary(decision).state is ConditionState.PAUSED
    again = model_service.decide(make_service_observed(service=kept))
    assert [type(effect) for effect in again.effects] == [ApplyService]
    assert summary(again).reason == "Starting"


def test_an_endpoint_that_only_http_reaches_is_published_with_what_it_has() -> None:
    by_http = replace(
        make_service(ServiceState.LOADED), grpc_url="", metrics_url="", http_url="https://oscar.example/p"
    )

    decision = model_service.decide(make_service_observed(service=by_http, probe=RIGHT))

    assert decision.status["url"] == "https://oscar.example/p"
    assert decision.status["endpoints"]["http"] == "https://oscar.example/p"
    assert decision.status["endpoints"].get("grpc") is None
