"""Fields that an architecture's family would silently ignore are refused before anything is created."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import builders
from builders import make_training_observed
from extension_example import descriptions
from pelagos.api import reasons
from pelagos.decisions import training_run
from pelagos.decisions.verdicts import Verdict

PAGE = Path(__file__).parents[2] / "docs/hyperparameters.md"


@pytest.fixture
def tiny() -> Iterator[None]:
    """A family without fields that were added later."""
    with descriptions.registered():
        yield


def judged(**spec: Any) -> list[Verdict]:
    seen = make_training_observed(spec=builders.training_run_spec(**spec))
    decision = training_run.decide(seen)
    assert not any(verdict.reason == reasons.INVALID_SPEC for verdict in decision.verdicts) or not decision.effects
    return [verdict for verdict in decision.verdicts if verdict.reason == reasons.INVALID_SPEC]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("name", "value"), [("gradientAccumulation", 2), ("learningRateSchedule", "Linear"), ("warmupEpochs", 0)]
)
def test_a_hyperparameter_that_the_family_does_not_heed_is_refused(name: str, value: object) -> None:
    (refused,) = judged(model={"architecture": "tiny_cnn"}, hyperparameters={name: value})

    assert refused.message == f"spec.hyperparameters.{name}: trainings of tiny_cnn do not use it; leave it out"
    assert refused.is_stuck
    assert not judged(model={"architecture": "yolov8n"}, hyperparameters={name: value})


@pytest.mark.parametrize("field", ["calibration", "perClassThresholds"])
@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("mask2former_tiny-semantic", "label pixels"),
        ("mask2former_tiny-panoptic", "label pixels and objects"),
        ("mask2former_tiny-instance", None),
        ("yolov8n", None),
        ("yolov8n-obb", None),
        ("mobilenet_v2", None),
    ],
)
def test_scores_that_say_nothing_of_how_often_they_are_right_are_not_calibrated(
    architecture: str, words: str | None, field: str
) -> None:
    said = [verdict.message for verdict in judged(model={"architecture": architecture}, evaluation={field: True})]

    refusal = f"spec.evaluation.{field}: the scores of models that {words} ({architecture}) do not say how often they are right"
    assert said == ([] if words is None else [f"{refusal}, and servers would ignore it; leave it out"])
    assert not judged(model={"architecture": architecture}, evaluation={field: False})


@pytest.mark.parametrize("metric", ["ECE", "ECE-uncalibrated"])
def test_a_gate_on_the_calibration_error_needs_a_calibration(metric: str) -> None:
    spec = {"gates": [{"metric": metric, "maximum": "0.05"}]}

    def said(**evaluation: bool) -> list[str]:
        seen = make_training_observed(spec=builders.training_run_spec(**spec, evaluation=evaluation))
        verdicts = training_run.decide(seen).verdicts
        return [verdict.message for verdict in verdicts if verdict.reason == reasons.GATE_METRIC_UNKNOWN]

    (refusal,) = said()
    assert refusal.startswith(
        f"spec.gates[0].metric: {metric} is measured on calibrated scores; set spec.evaluation.calibr"
    )
    assert not said(calibration=True)


@pytest.mark.usefixtures("tiny")
def test_a_family_that_knows_none_of_them_is_asked_for_none() -> None:
    assert not judged(model={"architecture": "tiny_cnn"})


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("architecture", "gpus", "batch", "want"),
    [
        ("tiny_cnn", 2, 16, "spec.resources.gpus is 2, and trainings of tiny_cnn use one GPU; set it to 1"),
        ("mobilenet_v2", 8, 6, "spec.resources.gpus is 8, and the GPUs share the 6 images of a batch"),
        ("mobilenet_v2", 6, 6, None),
        ("yolov8n", 2, 16, None),
        ("tiny_cnn", 1, 1, None),
    ],
)
def test_gpus_that_would_idle_are_refused(architecture: str, gpus: int, batch: int, want: str | None) -> None:
    found = judged(model={"architecture": architecture}, hyperparameters={"batchSize": batch}, resources={"gpus": gpus})

    assert [one.message.startswith(want or "nothing") for one in found] == ([True] if want else [])


@pytest.mark.parametrize(
    ("changes", "space", "want"),
    [
        (
            {},
            {"batchSize": {"values": [16, 2]}},
            "spec.resources.gpus is 4, and the GPUs would share 2 images of a batch",
        ),
        (
            {},
            {"batchSize": {"minimum": 3, "maximum": 8}},
            "spec.resources.gpus is 4, and the GPUs would share 3 images",
        ),
        ({"epochs": 3}, {"weightDecay": {"values": ["0"]}}, "spec.search.epochs: trials of 3 epochs would end before"),
        ({}, {"epochs": {"values": [9, 2]}}, "spec.search.space.epochs: trials of 2 epochs would end before"),
        ({}, {"epochs": {"minimum": 1, "maximum": 9}}, "spec.search.space.epochs: trials of 1 epochs would end before"),
        ({"epochs": 4}, {"batchSize": {"values": [4]}}, None),
        ({}, {"epochs": {"values": [9, 4]}}, None),
    ],
)
def test_a_search_with_trials_that_the_rest_of_the_spec_forbids_is_refused(
    changes: dict[str, Any], space: dict[str, Any], want: str | None
) -> None:
    found = judged(
        model={"architecture": "mobilenet_v2"},
        hyperparameters={"warmupEpochs": 3, "batchSize": 16},
        resources={"gpus": 4},
        search={"method": "Random", "trials": 2, "space": space} | changes,
    )

    assert [one.message.startswith(want or "nothing") for one in found] == ([True] if want else [])


def test_what_the_page_shows_is_accepted() -> None:
    shown = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    assert len(shown) == 2
    assert not any(judged(**yaml.safe_load(one)["spec"]) for one in shown)
