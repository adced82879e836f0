"""A model that passes all gates is registered once, under the name and alias that spec gives."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from builders import model_version, trained
from pelagos.api.training_run import ModelStatus
from pelagos.decisions import training_run
from pelagos.decisions.effects import RegisterModel
from pelagos.decisions.verdicts import ConditionState, summary

MANIFEST = {"manifestSha256": builders.MANIFEST}


def test_it_is_registered_with_its_package_digest_and_tracked_run() -> None:
    decision = training_run.decide(trained())

    (effect,) = decision.effects
    assert isinstance(effect, RegisterModel)
    want = effect.want
    assert (want.uid, want.model, want.alias, want.run_id) == ("uid-2", "detector", "champion", "t1")
    assert want.source == "mlflow-artifacts:/t1/artifacts/model"
    assert want.tags == {
        "pelagos.dev/package-uri": "/objects/model",
        "pelagos.dev/onnx-sha256": builders.ONNX,
        "pelagos.dev/manifest-sha256": builders.MANIFEST,
        "pelagos.dev/resource": "trainingrun/default/detector",
        "pelagos.dev/inputs-digest": builders.frozen_inputs().digest,
        "pelagos.dev/alias": "champion",
    }
    assert builders.conditions(decision)["Registered"] == ("Progressing", "Registering")
    assert decision.recheck_after == 0


def test_it_is_ready_only_once_it_is_registered() -> None:
    before, after = training_run.decide(trained()), training_run.decide(trained(version=model_version()))

    assert summary(before).state is ConditionState.PROGRESSING
    assert (summary(after).state, summary(after).message) == (ConditionState.DONE, "mAP50 0.800")
    assert builders.conditions(after)["Succeeded"] == ("Done", "Completed")
    assert after.status["model"]["version"] == "3"
    assert after.effects == ()


def test_a_registered_model_is_not_registered_again() -> None:
    assert training_run.decide(trained(version=model_version())).effects == ()


def test_nobody_asked_for_registration() -> None:
    decision = training_run.decide(trained(spec=builders.training_run_spec(register=None)))

    assert builders.conditions(decision)["Registered"] == ("Noted", "NotRequested")
    assert summary(decision).state is ConditionState.DONE
    assert decision.effects == ()


@pytest.mark.parametrize(
    "changes",
    [{"registry_outage": "registry: refused"}, {"tracked": None, "tracking_outage": "tracking: refused"}],
    ids=["registry", "tracking"],
)
def test_an_outage_makes_registration_unknown_and_is_looked_at_again(changes: dict[str, Any]) -> None:
    decision = training_run.decide(trained(**changes))

    assert builders.conditions(decision)["Registered"] == ("Unknown", "RegistryUnavailable")
    assert summary(decision).state is ConditionState.UNKNOWN
    assert decision.status["model"]["onnxSha256"] == builders.ONNX
    assert decision.recheck_after == 5


def test_a_model_whose_tracked_run_was_deleted_cannot_be_registered_and_a_person_is_reported() -> None:
    decision = training_run.decide(trained(tracked=None))

    assert builders.conditions(decision)["Registered"] == ("Refused", "TrackedRunMissing")
    assert "Restore the run in MLflow" in summary(decision).message
    assert decision.recheck_after is not None


def test_a_registered_model_keeps_its_published_version_through_an_outage() -> None:
    published = {"uri": "store/models/m", "onnxSha256": builders.ONNX, **MANIFEST, "name": "plankton", "version": "3"}

    decision = training_run.decide(
        trained(registry_outage="registry: refused", published=ModelStatus.model_validate(published))
    )

    assert decision.status["model"] == published


@pytest.mark.parametrize(
    "changes",
    [{"registry_outage": "registry: refused"}, {"registry_outage": "registry: refused", "tracked": None}],
    ids=["registry", "all of MLflow"],
)
def test_a_training_that_is_done_stays_ready_while_the_registry_cannot_be_asked(changes: dict[str, Any]) -> None:
    published = {"uri": "/objects/model", "onnxSha256": builders.ONNX, **MANIFEST, "name": "detector", "version": "3"}

    decision = training_run.decide(trained(published=ModelStatus.model_validate(published), **changes))

    assert (summary(decision).state, summary(decision).reason) == (ConditionState.DONE, "Completed")
    assert decision.status["model"] == published
    assert decision.effects == ()
    assert decision.recheck_after == 5


def test_a_model_of_another_namespace_is_left_alone_and_a_person_is_reported() -> None:
    decision = training_run.decide(trained(model_owners=frozenset({"elsewhere"})))

    assert decision.effects == ()
    assert builders.conditions(decision)["Registered"] == ("Refused", "ModelOwnedByOtherNamespace")
    message = summary(decision).message
    assert 'the registered model "detector" belongs to another namespace. Choose another name' in message
    assert "elsewhere" not in message
    assert decision.recheck_after is not None


def test_a_further_version_of_a_model_of_the_own_namespace_is_registered() -> None:
    (effect,) = training_run.decide(trained(model_owners=frozenset({"default"}))).effects

    assert isinstance(effect, RegisterModel)
