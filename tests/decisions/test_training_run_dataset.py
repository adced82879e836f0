"""A TrainingRun waits for a fitting version of its Dataset, resolves it once, and then keeps it."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from builders import OTHER_VERSION, VERSION, dataset_seen, dataset_version, make_training_observed, training_run_spec
from pelagos.decisions import training_run
from pelagos.decisions.effects import CreateTrackedRun
from pelagos.decisions.training_run import conditions
from pelagos.decisions.training_run.observed import ObservedDataset
from pelagos.decisions.verdicts import ConditionState, Verdict

PINNED = training_run_spec(datasetRef={"version": OTHER_VERSION})


def verdict_about(dataset: ObservedDataset, **changes: Any) -> Verdict:
    decision = training_run.decide(make_training_observed(dataset=dataset, **changes))
    return next(verdict for verdict in decision.verdicts if verdict.type == "DatasetReady")


def test_a_dataset_that_is_not_there_yet_is_waited_for() -> None:
    verdict = verdict_about(ObservedDataset(exists=False, ready=False, message="", candidate=None))

    assert (verdict.state, verdict.reason) == (ConditionState.WAITING, "DatasetNotFound")
    assert verdict.message == 'spec.datasetRef.name: there is no Dataset "frames" in namespace default yet'


def test_a_dataset_that_is_not_ready_is_waited_for_and_its_own_words_are_passed_on() -> None:
    verdict = verdict_about(dataset_seen(ready=False, candidate=None, message="spec.source: no such folder"))

    assert (verdict.state, verdict.reason) == (ConditionState.PROGRESSING, "DatasetNotReady")
    assert verdict.message == "Dataset frames is not Ready: spec.source: no such folder"


def test_waiting_asks_again_and_does_nothing() -> None:
    decision = training_run.decide(make_training_observed(dataset=dataset_seen(ready=False, candidate=None)))

    assert decision.effects == ()
    assert decision.recheck_after == conditions.DATASET_POLL
    assert decision.status == {}


def test_latest_is_resolved_to_the_version_of_now_and_frozen() -> None:
    decision = training_run.decide(make_training_observed())

    assert builders.conditions(decision)["DatasetReady"] == ("Done", "VersionFrozen")
    assert decision.status["dataset"]["version"] == VERSION
    assert decision.status["inputs"]["datasetRef"] == {"name": "frames", "version": "latest"}
    assert decision.status["inputsDigest"].startswith("sha256:")


def test_a_frozen_version_stays_when_the_dataset_moves_on_or_goes_away() -> None:
    for dataset in (
        dataset_seen(candidate=dataset_version(OTHER_VERSION)),
        ObservedDataset(exists=False, ready=False, message="", candidate=None),
    ):
        decision = training_run.decide(make_training_observed(frozen=builders.frozen_inputs(), dataset=dataset))

        assert decision.status["dataset"]["version"] == VERSION


def test_a_pinned_version_is_used_though_the_dataset_is_not_ready() -> None:
    seen = dataset_seen(ready=False, candidate=dataset_version(OTHER_VERSION))

    assert verdict_about(seen, spec=PINNED).state is ConditionState.DONE


def test_a_pinned_version_that_a_ready_dataset_does_not_have_yet_is_waited_for_with_those_that_it_has() -> None:
    verdict = verdict_about(dataset_seen(candidate=None), spec=PINNED)

    assert (verdict.state, verdict.reason) == (ConditionState.WAITING, "DatasetVersionUnknown")
    assert "spec.datasetRef.version" in verdict.message
    assert f"known: {VERSION}" in verdict.message


def test_a_pinned_version_is_waited_for_while_the_dataset_is_not_ready() -> None:
    assert verdict_about(dataset_seen(ready=False, candidate=None), spec=PINNED).reason == "DatasetNotReady"


@pytest.mark.parametrize(
    ("task", "architecture", "fits"),
    [
        ("Detection", "yolov8x", True),
        ("Detection", "mobilenet_v3_small", False),
        ("Classification", "mobilenet_v3_large", True),
        ("Classification", "mobilenet_v2", True),
        ("Classification", "yolov8x-cls", True),
        ("Detection", "yolov8n-cls", False),
        ("Classification", "yolov8n", False),
    ],
)
def test_the_architecture_must_fit_the_task_of_the_version(task: str, architecture: str, fits: bool) -> None:
    verdict = verdict_about(
        dataset_seen(candidate=dataset_version(task=task)), spec=training_run_spec(model={"architecture": architecture})
    )

    assert verdict.reason == ("VersionFrozen" if fits else "TaskMismatch")
    assert (verdict.state is ConditionState.REFUSED) is not fits
    if not fits:
        assert f"spec.model.architecture: {architecture} does not fit" in verdict.message
        assert "allowed: " in verdict.message


def test_a_version_without_images_to_measure_on_is_refused_before_anything_is_launched() -> None:
    decision = training_run.decide(make_training_observed(dataset=dataset_seen(empty_splits=("validation", "test"))))

    (verdict,) = decision.verdicts
    assert (verdict.state, verdict.reason) == (ConditionState.REFUSED, "SplitImpossible")
    assert "spec.datasetRef: " in verdict.message
    assert "no images in the split validation and test; " in verdict.message
    assert not decision.effects


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"hyperparameters": {"imageSize": 100}}, "spec.hyperparameters.imageSize must be a multiple of 32; it is 100"),
        ({"hyperparameters": {"learningRate": "1.5"}}, "spec.hyperparameters.learningRate"),
        ({"hyperparameters": {"learningRate": "0"}}, "it is '0'"),
        ({"model": {"weights": {"path": "../../etc/passwd"}}}, "spec.model.weights.path"),
    ],
)
def test_a_rule_across_fields_is_refused_with_the_value(spec: builders.Yaml, want: str) -> None:
    verdict = verdict_about(dataset_seen(), spec=training_run_spec(**spec))

    assert (verdict.state, verdict.reason) == (ConditionState.REFUSED, "InvalidSpec")
    assert want in verdict.message


def test_what_is_frozen_is_written_into_the_tracked_run_too() -> None:
    decision = training_run.decide(make_training_observed())

    (effect,) = decision.effects
    assert isinstance(effect, CreateTrackedRun)
    assert effect.want.tags["pelagos.dev/inputs-digest"] == decision.status["inputsDigest"]
    assert {"pelagos.dev/inputs", "pelagos.dev/dataset"} <= effect.want.tags.keys()


def test_a_task_of_another_release_of_which_no_models_are_trained_says_so_and_what_can_be_done() -> None:
    verdict = verdict_about(dataset_seen(candidate=dataset_version(task="KeyPoints")))

    assert (verdict.state, verdict.reason) == (ConditionState.REFUSED, "TaskMismatch")
    assert "for which no models are trained here" in verdict.message
    assert "pelagos export" in verdict.message


def test_a_version_that_did_not_pass_its_gates_is_not_trained_on() -> None:
    decision = training_run.decide(make_training_observed(dataset=dataset_seen(blocked="too few images of salp")))

    (verdict,) = (each for each in decision.verdicts if each.type == "DatasetReady")
    assert (verdict.state, verdict.reason) == (ConditionState.WAITING, "VersionBlocked")
    assert "did not pass its gates: too few images of salp" in verdict.message
    assert (decision.effects, decision.status) == ((), {})


def test_a_version_that_is_frozen_is_trained_on_whatever_is_said_of_it_later() -> None:
    seen = make_training_observed(frozen=builders.frozen_inputs(), dataset=dataset_seen(blocked="too few"))

    assert builders.conditions(training_run.decide(seen))["DatasetReady"] == ("Done", "VersionFrozen")
