"""Classification metrics on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pelagos_pipelines.evaluation import classification


def test_metrics_are_counted_per_class_and_averaged() -> None:
    scores = classification.score([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], 4)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.precision[:3].tolist() == [1, 0.5, 0.5]
    assert scores.recall[:3].tolist() == pytest.approx([2 / 3, 0.5, 1])
    assert scores.f1[:3].tolist() == pytest.approx([0.8, 0.5, 2 / 3])
    assert np.isnan(scores.f1[3]), "a class without true images has no metric"
    assert scores.macro("recall") == pytest.approx((2 / 3 + 0.5 + 1) / 3)
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    scores = classification.score([0, 1], [0, 0], 2)
    assert scores.precision.tolist() == [0.5, 0]


def test_precision_and_recall_at_every_threshold() -> None:
    precision, recall = classification.precision_recall(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]))
    assert precision.tolist() == pytest.approx([2 / 3, 0.5, 1, 1])
    assert recall.tolist() == [1, 0.5, 0.5, 0]


def test_equal_probabilities_pass_a_threshold_together() -> None:
    precision, recall = classification.precision_recall(np.array([True, False]), np.array([0.5, 0.5]))
    assert precision.tolist() == [0.5, 1]
    assert recall.tolist() == [1, 0]
