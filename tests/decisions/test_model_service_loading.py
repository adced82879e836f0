"""From a desired state to a server that has loaded the model; servers that die, hang or refuse."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import NOW, make_service, make_service_observed
from pelagos.decisions import effects, model_service
from pelagos.decisions.effects import ApplyService, RestartService
from pelagos.decisions.verdicts import ConditionState, Decision, summary
from pelagos.ports.gateway import Gateway
from pelagos.ports.serving import ProbeResult, ServiceState
from pelagos.ports.tenants import Tenant


def decide(state: ServiceState, *, ago: float = 0, **changes: Any) -> Decision:
    service = make_service(state, changed_at=NOW - timedelta(seconds=ago), **changes)
    return model_service.decide(make_service_observed(service=service))


def kinds(decision: Decision) -> list[type]:
    return [type(effect) for effect in decision.effects]


def test_without_a_server_one_is_started_and_looked_at_soon() -> None:
    decision = model_service.decide(make_service_observed())

    assert kinds(decision) == [ApplyService]
    assert builders.conditions(decision)["ModelLoaded"] == ("Progressing", "Starting")
    assert decision.recheck_after == 1


def test_a_server_for_an_earlier_want_is_changed() -> None:
    decision = decide(ServiceState.LOADED, digest="sha256:earlier")

    assert kinds(decision) == [ApplyService]
    assert builders.conditions(decision)["ModelLoaded"] == ("Progressing", "Starting")
    # It answers until others take over.
    assert decision.status["url"] == "grpc://127.0.0.1:8001"


@pytest.mark.parametrize("state", [ServiceState.DEAD, ServiceState.LOADED])
def test_an_endpoint_without_an_address_is_told_without_one(state: ServiceState) -> None:
    decision = decide(state, digest="sha256:earlier", grpc_url="", http_url="", metrics_url="")

    assert (decision.status["url"], decision.status["endpoints"]) == (None, None)


def test_loading_is_waited_for() -> None:
    decision = decide(ServiceState.STARTING, ago=119, message="model.onnx is being read")

    assert kinds(decision) == []
    assert builders.conditions(decision)["ModelLoaded"] == ("Progressing", "Loading")
    assert summary(decision).message == "model.onnx is being read"


def test_a_server_that_does_not_come_up_in_time_is_started_anew() -> None:
    decision = decide(ServiceState.STARTING, ago=121)

    assert kinds(decision) == [RestartService]
    assert builders.conditions(decision)["ModelLoaded"] == ("Failing", "LoadTimeout")


def test_a_model_that_the_server_refuses_is_a_matter_for_a_person() -> None:
    decision = decide(ServiceState.LOAD_FAILED, message="unsupported opset 99")

    assert (summary(decision).state, summary(decision).reason) == (ConditionState.REFUSED, "ModelLoadFailed")
    assert "unsupported opset 99" in summary(decision).message
    assert "spec.model" in summary(decision).message
    assert kinds(decision) == []


@pytest.mark.parametrize(("restarts", "pause"), [(0, 1), (1, 2), (3, 8), (5, 30), (400, 30)])
def test_a_dead_server_is_started_again_after_a_growing_pause(restarts: int, pause: float) -> None:
    early = decide(ServiceState.DEAD, ago=pause - 0.5, restarts=restarts)
    due = decide(ServiceState.DEAD, ago=pause, restarts=restarts)

    assert kinds(early) == []
    assert early.recheck_after == pytest.approx(0.5)
    assert kinds(due) == [ApplyService]


def test_a_clock_that_was_set_back_does_not_stretch_the_pause() -> None:
    assert decide(ServiceState.DEAD, ago=-86400).recheck_after == pytest.approx(1)


def test_a_death_is_told_with_its_cause_and_heals_by_itself() -> None:
    decision = decide(ServiceState.DEAD, message="signal 9", restarts=2)

    assert (summary(decision).state, summary(decision).reason) == (ConditionState.FAILING, "ServerCrashed")
    assert summary(decision).message == "the server died (signal 9; 2 restarts before); it is started again"
    assert decision.status["restarts"] == 2


def test_a_cluster_that_has_no_room_is_told_in_its_own_words_and_nothing_is_started_anew() -> None:
    decision = decide(
        ServiceState.WAITING, ago=86400, message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    )

    assert (summary(decision).state, summary(decision).reason) == (ConditionState.WAITING, "WaitingForCluster")
    assert "Insufficient nvidia.com/gpu" in summary(decision).message
    assert kinds(decision) == []


def test_a_server_that_was_ended_in_order_is_started_at_once_and_that_is_no_failure() -> None:
    decision = decide(ServiceState.ENDED, restarts=7, message="it was stopped with the installation")

    assert (summary(decision).state, summary(decision).reason) == (ConditionState.PROGRESSING, "Starting")
    assert kinds(decision) == [ApplyService]


def test_a_service_that_is_scaled_to_zero_is_ready_and_says_so() -> None:
    served = make_service(ServiceState.LOADED)
    right = ProbeResult(correct=True, message="", latency=0.01)
    proven = model_service.decide(make_service_observed(service=served, probe=right)).status["model"]["proven"]
    idle = make_service(ServiceState.IDLE, replicas=0)
    decision = model_service.decide(make_service_observed(service=idle, last_proven=proven))

    assert decision.status["model"]["proven"] == proven
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.DONE, "ScaledToZero")
    assert decision.status["replicas"] == 0
    assert decision.status["url"] == "grpc://127.0.0.1:8001"


def test_the_address_of_a_dead_server_is_not_published() -> None:
    status = decide(ServiceState.DEAD).status

    assert (status["url"], status["endpoints"]) == (None, None)


def test_the_addresses_are_published_as_soon_as_they_are_known() -> None:
    status = decide(ServiceState.STARTING).status

    assert status["url"] == "grpc://127.0.0.1:8001"
    assert status["endpoints"] == {
        "grpc": "127.0.0.1:8001",
        "http": "http://127.0.0.1:8000",
        "metrics": "http://127.0.0.1:8002/metrics",
    }


def test_the_gateway_is_given_the_login_of_servers_by_http_alone_before_its_address_is_published() -> None:
    url, login = "https://oscar.example/system/services/p-1-detector/exposed", "Basic c2VjcmV0"
    servers: Any = {"grpc_url": "", "http_url": url, "metrics_url": "", "authorization": login}
    told = {"gatewayHttp": "https://models.example.org/default/detector"}
    cases: tuple[tuple[dict[str, Any], Gateway, dict[str, str]], ...] = (
        (servers, Gateway("https://models.example.org", "models.example.org:8443"), told),
        (servers, Gateway("", "models.example.org:8443"), {}),
        (servers, Gateway(), {}),
        ({**servers, "authorization": ""}, Gateway("https://models.example.org"), {}),
        ({**servers, "http_url": "http://oscar.example"}, Gateway("https://models.example.org"), {}),
    )
    for state, gateway, published in cases:
        seen = make_service_observed(service=make_service(ServiceState.STARTING, **state), gateway=gateway)
        decision = model_service.decide(seen)
        assert decision.status["endpoints"] == {"http": state["http_url"], **published}
        found = [each for each in decision.effects if isinstance(each, effects.PublishLogin)]
        assert [each.login.authorization for each in found] == ([login] if published else [])
        assert login not in f"{decision} {seen.service}", "it would be in a log"


def test_an_idle_endpoint_that_was_never_proven_is_not_ready() -> None:
    idle = make_service(ServiceState.IDLE, replicas=0)
    decision = model_service.decide(make_service_observed(service=idle, last_proven="sha256:another-model"))

    assert "proven" not in decision.status["model"]
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.PROGRESSING, "NotVerified")
    assert kinds(decision) == []


def test_a_package_that_does_not_reach_the_server_is_no_death_of_it() -> None:
    decision = decide(ServiceState.FETCH_FAILED, message="init container storage-initializer of pod p ended: no keys")

    assert kinds(decision) == []
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.FAILING, "PackageNotFetched")
    assert (
        "does not reach the server: init container storage-initializer of pod p ended: no keys"
        in summary(decision).message
    )
    assert "died" not in summary(decision).message


def test_how_many_trials_may_be_open_is_published_where_there_is_a_gateway() -> None:
    there = Gateway("https://models.example.org")
    cases = (
        (there, Tenant(), {"perUser": 3, "atOnce": 5}),
        (there, Tenant(trials_per_user=1, trials_at_once=2), {"perUser": 1, "atOnce": 2}),
        (there, Tenant(trials_enabled=False), {"perUser": 0, "atOnce": 0}),
        (Gateway(), Tenant(), None),
    )
    for gateway, tenant, told in cases:
        for spec in (builders.model_service_spec(), builders.model_service_spec(suspend=True)):
            decision = model_service.decide(make_service_observed(spec=spec, gateway=gateway, tenant=tenant))
            assert decision.status["trials"] == told
