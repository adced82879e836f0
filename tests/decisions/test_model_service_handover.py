"""Another serving engine was set: the previous one's servers continue until their successors have answered right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import builders
from builders import RIGHT, WRONG, make_service, make_service_observed
from pelagos.decisions import model_service
from pelagos.decisions.effects import ApplyService, RetireService, StopService
from pelagos.decisions.verdicts import ConditionState, Decision, summary
from pelagos.ports.serving import ServiceState

OLD = "Deployment detector"
URL = "grpc://detector.default.svc:9000"


def decide(state: ServiceState, *, probe: Any = None, published: str = URL, **changes: Any) -> Decision:
    service = make_service(state, predecessor=OLD, **changes)
    wrong = 1 if probe is WRONG else 0
    seen = make_service_observed(service=service, probe=probe, wrong_probes=wrong, published_url=published)
    return model_service.decide(seen)


def test_where_only_the_old_one_is_the_new_one_is_started_and_clients_keep_their_address() -> None:
    decision = decide(ServiceState.STARTING, digest="nothing of this engine", grpc_url="")

    assert [type(effect) for effect in decision.effects] == [ApplyService]
    assert "url" not in decision.status
    assert (
        f"until it answers correctly, {OLD} of the previous serving engine continues to serve"
        in summary(decision).message
    )


@pytest.mark.parametrize(
    ("state", "probe"),
    [(ServiceState.STARTING, None), (ServiceState.LOADED, None), (ServiceState.LOADED, WRONG), (ServiceState.WAITING, None)],
)  # fmt: skip
def test_the_old_one_stays_until_the_new_one_has_answered_right(state: ServiceState, probe: Any) -> None:
    decision = decide(state, probe=probe)

    assert RetireService("uid-3") not in decision.effects
    assert "url" not in decision.status


def test_clients_are_told_the_new_address_one_pass_before_the_old_one_goes() -> None:
    told = decide(ServiceState.LOADED, probe=RIGHT)
    assert (told.status["url"], told.effects, told.recheck_after) == ("grpc://127.0.0.1:8001", (), 1)

    gone = decide(ServiceState.LOADED, probe=RIGHT, published="grpc://127.0.0.1:8001")
    assert gone.effects == (RetireService("uid-3"),)
    assert summary(gone).state is ConditionState.DONE
    assert OLD in summary(gone).message


def test_a_suspended_service_keeps_neither() -> None:
    seen = make_service_observed(
        service=make_service(ServiceState.STARTING, digest="nothing of this engine", predecessor=OLD),
        spec=builders.model_service_spec(suspend=True),
    )

    assert model_service.decide(seen).effects == (StopService("uid-3"),)
    assert model_service.decide(replace(seen, service=None)).status["replicas"] == 0


HELD = f"{OLD} in namespace default is being deleted since 2026-01-01T00:00:00Z and waits for foregroundDeletion"


def test_an_old_one_that_was_told_to_go_and_does_not_is_told_with_what_it_waits_for() -> None:
    decision = decide(ServiceState.LOADED, probe=RIGHT, published="grpc://127.0.0.1:8001", predecessor_held=HELD)

    assert summary(decision).state is ConditionState.DONE
    assert HELD in summary(decision).message
    assert "is removed" not in summary(decision).message
    assert (decision.effects, decision.recheck_after) == ((), 5)


@pytest.mark.parametrize(
    ("order", "about", "goes"),
    [
        ("NewFirst", {"lacks_room": True}, False),
        ("OldFirst", {"lacks_room": True}, True),
        ("OldFirst", {"lacks_room": False}, False),  # for example an image that does not exist
        ("OldFirst", {"lacks_room": True, "predecessor_held": HELD}, False),
    ],
)
def test_what_waits_for_room_takes_that_of_the_old_one_only_where_spec_says_so(
    order: str, about: dict[str, Any], goes: bool
) -> None:
    want = make_service(ServiceState.WAITING, predecessor=OLD, **about)
    spec = builders.model_service_spec(rollout={"order": order})

    decision = model_service.decide(make_service_observed(service=want, spec=spec))

    assert decision.effects == ((RetireService("uid-3"),) if goes else ())
    assert ("continues to serve" in summary(decision).message) is not goes
    assert ("OldFirst removes the old one first" in summary(decision).message) == (order == "NewFirst")


@pytest.mark.parametrize(
    ("order", "replicas", "words"),
    [
        ("NewFirst", 1, "generation 1 of spec is still served"),
        ("OldFirst", 1, "requests fail until the new one answers correctly"),
        ("OldFirst", 2, "an old server ends first"),
    ],
)
def test_what_clients_get_meanwhile_is_told_by_the_order(order: str, replicas: int, words: str) -> None:
    before = make_service(ServiceState.LOADED, digest="generation 1", replicas=replicas)
    spec = builders.model_service_spec(rollout={"order": order})

    decision = model_service.decide(make_service_observed(service=before, spec=spec, served_generation=1))

    told = summary(decision).message
    assert words in told
    assert ("is still served" in told) == (order == "NewFirst")
    assert ("requests fail" in told) == (order == "OldFirst" and replicas == 1)
