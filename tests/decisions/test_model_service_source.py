"""A ModelService serves the model that spec.model names, and continues to serve it while the reference is unavailable."""

from __future__ import annotations

import pytest

import builders
from builders import MODEL, RIGHT, make_service, make_service_observed, model_service_spec
from pelagos.api import reasons
from pelagos.decisions import model_service
from pelagos.decisions.effects import ApplyService
from pelagos.decisions.model_service import conditions, loading, observed
from pelagos.decisions.model_service.observed import ResolvedModel, Unresolved
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.serving import DesiredService, ServiceState

AWAY = Unresolved(reasons.TRAINING_RUN_NOT_FOUND, "spec.model.trainingRunRef.name: there is no TrainingRun")
NO_ALIAS = Unresolved(reasons.MODEL_VERSION_NOT_FOUND, "spec.model.registry: there is no such model")
STRANGE = Unresolved(reasons.MODEL_OUTSIDE_NAMESPACE, "spec.model.uri: it is not below the folder of this namespace")


def wanted(seen: observed.Observed) -> DesiredService:
    (effect,) = model_service.decide(seen).effects
    assert isinstance(effect, ApplyService)
    return effect.want


@pytest.mark.parametrize(
    ("model", "state"),
    [(AWAY, ConditionState.WAITING), (NO_ALIAS, ConditionState.WAITING), (STRANGE, ConditionState.REFUSED)],
    ids=["no run", "no alias", "refused"],
)
def test_without_a_model_nothing_is_started_and_the_cause_is_reported(model: Unresolved, state: ConditionState) -> None:
    decision = model_service.decide(make_service_observed(model=model))

    assert decision.effects == ()
    assert (summary(decision).state, summary(decision).reason) == (state, model.reason)
    assert decision.recheck_after == conditions.MODEL_POLL


@pytest.mark.parametrize("model", [AWAY, NO_ALIAS, STRANGE], ids=["no run", "no alias", "refused"])
def test_what_is_served_stays_served_and_ready_while_the_same_reference_is_away(model: Unresolved) -> None:
    seen = make_service_observed(
        model=model,
        last_model=MODEL,
        last_reference=observed.reference(model_service_spec()),
        service=make_service(ServiceState.LOADED),
        probe=RIGHT,
    )

    decision = model_service.decide(seen)

    assert decision.effects == ()
    assert summary(decision).state is ConditionState.DONE
    assert builders.conditions(decision)["ModelResolved"] == ("Noted", model.reason)
    assert decision.verdicts[0].message.endswith("; the last model is still served")


@pytest.mark.parametrize(
    ("model", "state"),
    [(AWAY, ConditionState.WAITING), (NO_ALIAS, ConditionState.WAITING), (STRANGE, ConditionState.REFUSED)],
    ids=["no run", "no alias", "refused"],
)
def test_a_new_reference_that_leads_nowhere_is_not_ready_though_the_last_model_stays_served(
    model: Unresolved, state: ConditionState
) -> None:
    seen = make_service_observed(
        model=model,
        last_model=MODEL,
        last_reference="registry detector alias champion",
        service=make_service(ServiceState.LOADED),
        probe=RIGHT,
    )

    decision = model_service.decide(seen)

    assert decision.effects == ()
    assert (summary(decision).state, summary(decision).reason) == (state, model.reason)
    assert decision.status["url"] == "grpc://127.0.0.1:8001"


def test_a_server_that_dies_while_its_reference_is_away_is_started_again() -> None:
    reference = observed.reference(model_service_spec())
    service = make_service(ServiceState.DEAD, changed_at=builders.NOW - loading.LOAD_TIMEOUT)
    seen = make_service_observed(model=AWAY, last_model=MODEL, last_reference=reference, service=service)

    assert wanted(seen).package_uri == MODEL.uri


def test_references_are_told_apart() -> None:
    specs = (
        model_service_spec(),
        model_service_spec(model={"trainingRunRef": {"name": "other"}}),
        model_service_spec(model={"trainingRunRef": None, "uri": "/objects/model"}),
        *(
            model_service_spec(model={"trainingRunRef": None, "registry": {"model": "detector", **which}})
            for which in ({"alias": "champion"}, {"alias": "challenger"}, {"version": "3"})
        ),
    )

    assert len({observed.reference(spec) for spec in specs}) == len(specs)


def test_an_alias_that_moved_makes_a_new_want() -> None:
    before = make_service_observed()
    moved = ResolvedModel("/objects/better", "d4" * 32, "f6" * 32, "detector version 4")
    service = make_service(ServiceState.LOADED, digest=wanted(before).digest)

    want = wanted(make_service_observed(model=moved, service=service))

    assert want.digest != wanted(before).digest
    assert (want.package_uri, want.onnx_sha256, want.manifest_sha256) == ("/objects/better", "d4" * 32, "f6" * 32)


@pytest.mark.parametrize(
    "spec",
    [
        {"runtime": {"maxBatchSize": 4}},
        {"runtime": {"maxQueueDelay": "6ms"}},
        {"runtime": {"instances": 2}},
        {"thresholds": {"confidence": "0.3"}},
        {"thresholds": {"iou": "0.6"}},
        {"resources": {"cpu": 2}},
    ],
    ids=str,
)
def test_a_setting_that_changed_makes_a_new_want(spec: builders.Yaml) -> None:
    assert (
        wanted(make_service_observed(spec=model_service_spec(**spec))).digest != wanted(make_service_observed()).digest
    )


def test_the_same_model_from_elsewhere_is_the_same_want() -> None:
    other = ResolvedModel(MODEL.uri, MODEL.onnx_sha256, MODEL.manifest_sha256, "detector version 3")

    assert wanted(make_service_observed(model=other)) == wanted(make_service_observed())


def test_a_retry_that_is_asked_for_starts_the_server_anew() -> None:
    assert wanted(make_service_observed(retry="2")).digest != wanted(make_service_observed()).digest


def test_the_want_carries_what_spec_says_in_the_units_of_the_port() -> None:
    want = wanted(make_service_observed(spec=model_service_spec(runtime={"maxQueueDelay": "5ms"})))

    assert (want.uid, want.model_name, want.max_queue_delay) == ("uid-3", "detector", 5000)
    assert (want.confidence, want.iou, want.max_batch_size) == ("0.25", "0.7", 8)


@pytest.mark.parametrize(
    ("model", "want"),
    [
        ({"trainingRunRef": None}, "spec.model: set exactly one of trainingRunRef, registry and uri; it is {}"),
        ({"uri": "/objects/model"}, "spec.model: set exactly one"),
        ({"trainingRunRef": None, "registry": {"model": "detector"}}, "spec.model.registry: set exactly one of alias"),
    ],
)
def test_a_rule_across_fields_is_refused_with_the_value(model: builders.Yaml, want: str) -> None:
    decision = model_service.decide(make_service_observed(spec=model_service_spec(model=model)))

    assert (summary(decision).state, summary(decision).reason) == (ConditionState.REFUSED, "InvalidSpec")
    assert want in summary(decision).message
