"""Changes around servers that stay the same: their number, and the objects beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import builders
from builders import make_service, make_service_observed
from pelagos.decisions import model_service
from pelagos.decisions.effects import ApplyService
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.model_service.observed import Observed, ResolvedModel
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.serving import DesiredService, ProbeResult, Scaling, ServiceState, spec_digest

RIGHT = ProbeResult(correct=True, message="", latency=0.01)


def want(**scaling: Any) -> DesiredService:
    observed = make_service_observed(spec=builders.model_service_spec(scaling=scaling))
    assert isinstance(observed.model, ResolvedModel)
    return endpoint.wanted(observed, observed.model)


@pytest.mark.parametrize("scaling", [{"min": 2, "max": 2}, {"max": 5}, {"max": 5, "target": {"cpu": 60}}])
def test_the_numbers_of_scaling_change_the_want_and_not_its_servers(scaling: dict[str, Any]) -> None:
    assert want(**scaling).digest != want().digest
    assert want(**scaling).pod_template_digest == want().pod_template_digest == want().digest


@pytest.mark.parametrize(("numbers", "replicas"), [({}, 1), ({"min": 3}, 3), ({"min": 3, "max": 1}, 3)])
def test_without_a_maximum_above_them_exactly_the_fewest_replicas_run(numbers: dict[str, int], replicas: int) -> None:
    scaling = want(**numbers).scaling

    assert (scaling.minimum, scaling.maximum) == (replicas, replicas)


def ready_message(asked: int, **changes: Any) -> str:
    spec = builders.model_service_spec(scaling={"min": asked})
    seen = make_service_observed(spec=spec)
    service = make_service(ServiceState.LOADED, digest=endpoint.wanted(seen, builders.MODEL).digest)
    decision = model_service.decide(replace(seen, service=replace(service, **changes), probe=RIGHT))
    assert summary(decision).state is ConditionState.DONE
    return summary(decision).message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 3}, ""),
        ({"replicas": 1}, "; 1 of 3 replicas are ready"),
        ({"replicas": 2, "message": "0/2 nodes fit"}, "; 2 of 3 replicas are ready: 0/2 nodes fit"),
        ({"is_alone": True}, "; spec.scaling.min is 3, and on one machine there is always one server"),
    ],
)
def test_a_service_with_fewer_replicas_than_asked_for_is_ready_and_says_so(changes: dict[str, Any], words: str) -> None:
    assert ready_message(3, **changes).removeprefix(ready_message(1)) == words


def test_whoever_scales_is_told_replicas_and_the_labels_of_pods() -> None:
    told: dict[str, Any] = {
        "replicas": 2,
        "pod_selector": "pelagos.dev/uid=u,app.kubernetes.io/name=pelagos-model-server",
    }
    seen = make_service_observed(spec=builders.model_service_spec(scaling={"min": 2}))
    service = make_service(ServiceState.LOADED, digest=endpoint.wanted(seen, builders.MODEL).digest)

    status = model_service.decide(replace(seen, service=replace(service, **told), probe=RIGHT)).status

    assert (status["replicas"], status["selector"]) == (2, told["pod_selector"])


@pytest.mark.parametrize(("mode", "old_first"), [("Standard", True), ("Knative", False)])
def test_only_servers_of_a_deployment_are_replaced_in_an_order(mode: str, old_first: bool) -> None:
    """An InferenceService that Knative runs cannot say which server is which, so its order could never match the desired one."""
    spec = builders.model_service_spec(scaling={"deploymentMode": mode}, rollout={"order": "OldFirst"})
    wanted = endpoint.wanted(make_service_observed(spec=spec), builders.MODEL)

    assert wanted.scaling.old_first is old_first
    assert (wanted.digest == want(deploymentMode=mode).digest) is not old_first


def test_another_way_of_deployment_replaces_the_servers() -> None:
    assert want(deploymentMode="Knative", min=0).pod_template_digest != want().pod_template_digest


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Scaling(), Scaling(cpu=80), True),
        (Scaling(), Scaling(concurrency=7), True),
        (Scaling(mode="Knative", cpu=60), Scaling(mode="Knative", cpu=60, concurrency=7), True),
        (Scaling(), Scaling(cpu=81), False),
        (Scaling(mode="Knative"), Scaling(mode="Knative", concurrency=7), False),
        (Scaling(mode="Knative"), Scaling(mode="Knative", cpu=80), False),
        (Scaling(maximum=2), Scaling(maximum=3), False),
    ],
)
def test_wants_that_scale_alike_are_the_same(one: Scaling, other: Scaling, same: bool) -> None:
    assert (spec_digest("sha256:1", one) == spec_digest("sha256:1", other)) is same


def observed(probe: ProbeResult | None, digest: str = "", **changes: Any) -> Observed:
    """Servers in their desired state, with objects beside them that are not."""
    service = replace(make_service(ServiceState.LOADED), **({"pods_digest": want().pod_template_digest} | changes))
    wrong = int(probe is not None and not probe.correct)
    return replace(make_service_observed(), service=replace(service, digest=digest), probe=probe, wrong_probes=wrong)


@pytest.mark.parametrize("digest", ["", "sha256:earlier"], ids=["drift", "scaling"])
def test_servers_that_are_as_wanted_stay_ready_while_what_is_around_them_is_put_right(digest: str) -> None:
    decision = model_service.decide(observed(RIGHT, digest))
    assert [type(effect) for effect in decision.effects] == [ApplyService]
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.DONE, "Serving")
    assert decision.status["url"] == "grpc://127.0.0.1:8001"


@pytest.mark.parametrize(
    ("changes", "probe"),
    [
        ({"pods_digest": "sha256:another"}, RIGHT),
        ({"state": ServiceState.STARTING}, RIGHT),
        ({}, None),
        ({}, ProbeResult(correct=False, message="wrong", latency=0.01)),
    ],
)
def test_others_are_not_ready_meanwhile(changes: dict[str, Any], probe: ProbeResult | None) -> None:
    decision = model_service.decide(observed(probe, **changes))
    assert [type(effect) for effect in decision.effects] == [ApplyService]
    assert summary(decision).state is ConditionState.PROGRESSING
