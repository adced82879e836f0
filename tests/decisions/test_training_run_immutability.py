"""Fields that decide the outcome of a training cannot change, even on servers without CEL."""

from __future__ import annotations

import pytest

import builders
from builders import frozen_inputs, make_training_observed, training_run_spec
from pelagos.decisions import training_run
from pelagos.decisions.training_run import identity
from pelagos.decisions.verdicts import ConditionState
from pelagos.ports.pipelines import RunState


@pytest.mark.parametrize(
    ("change", "field", "before", "after"),
    [
        ({"hyperparameters": {"epochs": 20}}, "spec.hyperparameters.epochs", "10", "20"),
        ({"model": {"architecture": "yolov8s"}}, "spec.model.architecture", "'yolov8n'", "'yolov8s'"),
        ({"datasetRef": {"name": "other"}}, "spec.datasetRef.name", "'frames'", "'other'"),
        ({"earlyStopping": {"patience": 3}}, "spec.earlyStopping", "nothing", "{'patience': 3}"),
        ({"seeds": [1]}, "spec.seeds", "[0]", "[1]"),
        ({"tracking": {"experiment": "mine"}}, "spec.tracking.experiment", "nothing", "'mine'"),
        ({"hyperparameters": {"imageSize": 320}}, "spec.hyperparameters.imageSize", "nothing", "320"),
        ({"evaluation": {"maxDetections": 300}}, "spec.evaluation.maxDetections", "3000", "300"),
    ],
)
def test_a_changed_field_is_refused_with_both_values(
    change: builders.Yaml, field: str, before: str, after: str
) -> None:
    decision = training_run.decide(
        make_training_observed(
            frozen=frozen_inputs(), spec=training_run_spec(**change), run=builders.make_run(RunState.RUNNING)
        )
    )

    (verdict,) = decision.verdicts
    assert (verdict.state, verdict.reason) == (ConditionState.REFUSED, "SpecImmutable")
    assert verdict.message.startswith(
        f"{field} is immutable: this run was made with {before}, and the resource now says {after}."
    )
    assert "Set it back, or create a new TrainingRun" in verdict.message
    assert decision.effects == ()


def test_a_removed_field_is_a_change() -> None:
    frozen = frozen_inputs(earlyStopping={"patience": 3})

    (verdict,) = training_run.decide(make_training_observed(frozen=frozen)).verdicts

    assert verdict.message.startswith("spec.earlyStopping is immutable: this run was made with {'patience': 3}")


@pytest.mark.parametrize(
    "change",
    [
        {"gates": []},
        {"register": {"model": "another"}},
        {"deadline": "2h"},
        {"resources": {"cpu": 4, "memory": "64Gi", "gpus": 1}},
        {"suspend": True},
        {"deletionPolicy": "Delete"},
    ],
)
def test_what_judges_and_does_not_train_may_change(change: builders.Yaml) -> None:
    decision = training_run.decide(make_training_observed(frozen=frozen_inputs(), spec=training_run_spec(**change)))

    assert all(verdict.reason != "SpecImmutable" for verdict in decision.verdicts)


def test_setting_the_field_back_goes_on_where_it_was() -> None:
    run = builders.make_run(RunState.RUNNING)
    spoilt = make_training_observed(frozen=frozen_inputs(), spec=training_run_spec(seeds=[1]), run=run)
    healed = make_training_observed(frozen=frozen_inputs(), tracked=builders.make_tracked(), run=run)

    assert training_run.decide(spoilt).status["inputsDigest"] == training_run.decide(healed).status["inputsDigest"]
    assert builders.conditions(training_run.decide(healed))["Evaluated"] == ("Progressing", "Running")


def test_a_run_that_an_earlier_operator_froze_before_a_field_existed_is_not_taken_for_a_changed_one() -> None:
    now = frozen_inputs()
    older = {name: value for name, value in now.inputs["hyperparameters"].items() if name != "mosaic"}
    frozen = identity.Frozen({**now.inputs, "hyperparameters": older}, now.dataset)

    decision = training_run.decide(make_training_observed(frozen=frozen))

    assert builders.conditions(decision)["DatasetReady"] == ("Done", "VersionFrozen")
    assert decision.status["inputsDigest"] == frozen.digest


def test_a_run_that_an_earlier_operator_froze_with_its_resources_goes_on_under_its_key() -> None:
    now = frozen_inputs()
    frozen = identity.Frozen({**now.inputs, "resources": {"cpu": 4}}, now.dataset)

    decision = training_run.decide(make_training_observed(frozen=frozen))

    assert builders.conditions(decision)["DatasetReady"] == ("Done", "VersionFrozen")
    assert decision.status["inputsDigest"] == frozen.digest
