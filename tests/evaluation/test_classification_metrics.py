"""Classification metrics equal those of scikit-learn to a millionth, and undefined ones are None, never 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from pelagos_contract.tasks import AVERAGES
from pelagos_pipelines.evaluation import classification, shares

REFERENCE = {"precision": sklearn.precision_score, "recall": sklearn.recall_score, "F1": sklearn.f1_score}


def test_metrics_are_counted_per_class_and_averaged() -> None:
    scores = classification.score([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], 4)
    values = {name: share.by_class.tolist() for name, share in scores.shares.items()}
    assert scores.accuracy == pytest.approx(4 / 6)
    assert values["precision"][:3] == [1, 0.5, 0.5]
    assert values["recall"][:3] == pytest.approx([2 / 3, 0.5, 1])
    assert values["F1"][:3] == pytest.approx([0.8, 0.5, 2 / 3])
    assert np.isnan(values["F1"][3]), "a class without true images has no metric"
    assert scores.shares["recall"].macro == pytest.approx((2 / 3 + 0.5 + 1) / 3)
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(("seed", "images", "classes"), [(0, 1, 1), (1, 3, 9), (2, 40, 2), (3, 200, 7), (4, 5000, 60)])
def test_averages_are_those_of_scikit_learn(seed: int, images: int, classes: int) -> None:
    """Of nine classes in three images, some are never true and others are never predicted."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, images) * generator.integers(0, 2, images)
    said = np.where(generator.random(images) < 0.6, truth, generator.integers(0, classes, images))
    present = np.unique(truth)
    scores = classification.score(truth, said, classes)
    assert scores.accuracy == pytest.approx(sklearn.accuracy_score(truth, said), abs=1e-6)
    for name, reference in REFERENCE.items():
        share, how = scores.shares[name], {"labels": present, "zero_division": np.nan}
        assert share.by_class[present] == pytest.approx(
            reference(truth, said, average=None, **how), abs=1e-6, nan_ok=True
        )
        assert share.macro == pytest.approx(reference(truth, said, average="macro", **how), abs=1e-6)
        assert share.weighted == pytest.approx(reference(truth, said, average="weighted", **how), abs=1e-6)
        everything: Any = how | {"labels": range(classes)}
        assert share.micro == pytest.approx(reference(truth, said, average="micro", **everything), abs=1e-6)


def test_iou_of_counts_and_its_averages_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, said = generator.integers(0, 6, (2, 500))
    confusion = sklearn.confusion_matrix(truth, said)
    share = shares.of_counts(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))["IoU"]
    assert share.by_class == pytest.approx(sklearn.jaccard_score(truth, said, average=None), abs=1e-6)
    for kind in ("macro", *AVERAGES):
        assert getattr(share, kind) == pytest.approx(sklearn.jaccard_score(truth, said, average=kind), abs=1e-6)


def test_a_class_that_is_never_predicted_has_no_precision_and_an_f1_of_zero() -> None:
    scores = classification.score([0, 1], [0, 0], 2).shares
    assert scores["precision"].by_class.tolist() == pytest.approx([0.5, math.nan], nan_ok=True)
    assert scores["precision"].macro == 0.5
    assert scores["F1"].by_class[1] == 0
    nothing: Any = np.zeros(2, int)
    for share in shares.of_counts(nothing, nothing, np.array([3, 0])).values():
        assert np.isnan([share.macro, share.micro, share.weighted]).all(), "nothing is true"


@pytest.mark.parametrize("steps", [2, 3, 1000])
def test_top_5_is_that_of_scikit_learn_with_the_first_of_equal_ones_first(steps: int) -> None:
    """scikit-learn ranks the last of equal ones first, so it gets the classes in reverse order."""
    generator = np.random.default_rng(steps)
    truth = generator.integers(0, 9, 300)
    probabilities = generator.integers(0, steps, (300, 9)) / steps
    want = sklearn.top_k_accuracy_score(8 - truth, probabilities[:, ::-1], k=5, labels=range(9))
    assert classification.top5(truth, probabilities) == pytest.approx(want, abs=1e-6)
    accuracy = classification.score(truth, probabilities.argmax(axis=1), 9).accuracy
    assert classification.top5(truth, probabilities) >= accuracy, "what is right is among the first five"


def test_among_five_classes_there_is_no_top_5() -> None:
    assert math.isnan(classification.top5([0], np.eye(1, 5)))
    assert classification.top5([0], np.eye(1, 6)) == 1


def test_the_loss_is_that_of_scikit_learn_and_finite_for_what_was_held_for_impossible() -> None:
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, 4, 300), generator.dirichlet(np.ones(4), 300).astype(np.float32)
    probabilities[0] = np.eye(4)[(truth[0] + 1) % 4]
    want = sklearn.log_loss(truth, probabilities, labels=range(4))

    assert classification.surprise(probabilities[np.arange(300), truth]).mean() == pytest.approx(want, abs=1e-6)
    assert classification.surprise(np.float32(1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("steps", [3, 1000])
def test_average_precision_of_a_class_is_that_of_scikit_learn(steps: int) -> None:
    generator = np.random.default_rng(0)
    positive, probability = generator.random(200) < 0.3, generator.integers(0, steps, 200) / steps
    precision, recall = classification.precision_recall(positive, probability)
    area: Any = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(sklearn.average_precision_score(positive, probability), abs=1e-6)


def test_precision_and_recall_at_every_threshold() -> None:
    precision, recall = classification.precision_recall(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]))
    assert precision.tolist() == pytest.approx([2 / 3, 0.5, 1, 1])
    assert recall.tolist() == [1, 0.5, 0.5, 0]


def test_equal_probabilities_pass_a_threshold_together() -> None:
    precision, recall = classification.precision_recall(np.array([True, False]), np.array([0.5, 0.5]))
    assert precision.tolist() == [0.5, 1]
    assert recall.tolist() == [1, 0]


def test_epochs_and_trials_can_be_compared_by_the_precision_of_a_model_that_says_nothing_yet() -> None:
    nothing: Any = np.zeros(2, int)
    said_nothing = shares.of_counts(nothing, np.array([3, 1]), nothing)
    assert shares.of_epoch(said_nothing, ("precision", "recall")) == {"precision": 0, "recall": 0}
    assert shares.of_epoch(shares.of_counts(nothing, nothing, nothing), ("precision", "recall")) == {}
