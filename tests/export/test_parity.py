"""Parity holds within one pixel and one hundredth; otherwise the error says what differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.export import parity
from pelagos_pipelines.serving.maps import NumberMap
from pelagos_pipelines.serving.predictions import Floats, Prediction
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.serving.tasks.panoptic_segmentation import Segments
from pelagos_pipelines.serving.tasks.semantic_segmentation import ClassMap


def make_detections(boxes: list[list[float]], scores: list[float], class_ids: list[int]) -> Detections:
    return Detections(100, 80, np.array(boxes, np.float32), np.array(scores, np.float32), np.array(class_ids, np.int32))


BASE = make_detections([[10, 10, 30, 30], [50, 50, 70, 70]], [0.9, 0.6], [0, 1])


def refusal(expected: Prediction, served: Prediction) -> str:
    with pytest.raises(RefusedError) as caught:
        parity.compare([expected], [served], 0.25)
    assert caught.value.failure.reason is Reason.PARITY_FAILED
    return caught.value.failure.message


def test_small_differences_are_measured() -> None:
    served = make_detections([[50, 50.5, 70, 70], [10, 10, 30, 30]], [0.6, 0.895], [1, 0])
    got = parity.compare([BASE, BASE], [BASE, served], 0.25)
    assert got.images == 2
    assert got.boxes == pytest.approx(0.5)
    assert got.scores == pytest.approx(0.005, abs=1e-6)


def test_a_moved_box_fails() -> None:
    served = make_detections([[10, 10, 32, 30], [50, 50, 70, 70]], [0.9, 0.6], [0, 1])
    assert "boxes differ by up to 2.000 pixels" in refusal(BASE, served)


def test_another_score_fails() -> None:
    served = make_detections([[10, 10, 30, 30], [50, 50, 70, 70]], [0.9, 0.57], [0, 1])
    assert "scores by up to 0.0300" in refusal(BASE, served)


def test_another_class_fails() -> None:
    served = make_detections([[10, 10, 30, 30], [50, 50, 70, 70]], [0.9, 0.6], [0, 0])
    assert "the training model alone finds 1 of 2 boxes" in refusal(BASE, served)


def test_an_extra_box_fails() -> None:
    fewer = make_detections([[10, 10, 30, 30]], [0.9], [0])
    assert "the exported model alone finds 1 of 2 boxes" in refusal(fewer, BASE)


def test_a_box_at_the_threshold_may_be_missing() -> None:
    wavering = make_detections([[10, 10, 30, 30], [50, 50, 70, 70], [0, 0, 9, 9]], [0.9, 0.6, 0.2501], [0, 1, 0])
    assert parity.compare([wavering], [BASE], 0.25).boxes == 0


def test_probabilities_are_compared() -> None:
    first, near, far = (
        Classification(9, 9, np.array(row, np.float32)) for row in ((0.9, 0.1), (0.895, 0.105), (0.8, 0.2))
    )
    assert parity.compare([first], [near], 0.25).scores == pytest.approx(0.005, abs=1e-6)
    assert "scores by up to 0.1000" in refusal(first, far)


RAW = np.array([[10.0, 20.0], [10, 20], [5, 6], [5, 6], [0.0014, 0.00141], [0.00139, 0.0014]], np.float32)
SHAKEN = RAW * np.float32(1.001)


def outputs_refusal(exported: Floats, trained: Floats = RAW) -> str:
    with pytest.raises(RefusedError) as caught:
        parity.compare_outputs(
            [trained], [exported], [exported * np.float32(1.001)], task="Detection", labels=["a", "b"]
        )
    assert caught.value.failure.reason is Reason.PARITY_FAILED
    return caught.value.failure.message


def test_scores_that_tie_are_no_difference_when_the_networks_give_the_same() -> None:
    """Suppression keeps different boxes if scores differ in the last digit, so only the networks' outputs are compared."""
    exported = RAW + np.float32(1e-8)
    got = parity.compare_outputs([RAW, RAW], [exported, RAW], [SHAKEN, SHAKEN], task="Detection", labels=["a", "b"])
    assert got.images == 2
    assert got.boxes < 1e-5
    assert got.scores < 1e-7


def test_small_scores_of_other_classes_fail() -> None:
    assert "class 'a' differs by" in outputs_refusal(RAW[[0, 1, 2, 3, 5, 4]])


def test_other_boxes_and_other_shapes_fail() -> None:
    assert "x of the boxes differs by 0.5" in outputs_refusal(RAW + np.array([[0.5]] + [[0]] * 5, np.float32))
    assert "shape (6, 1) instead of (6, 2)" in outputs_refusal(RAW[:, :1])
    assert "differs by nan" in outputs_refusal(RAW * np.float32("nan"))


def test_other_classes_fail() -> None:
    parity.require_labels(("a", "b"), ("a", "b"))
    with pytest.raises(RefusedError, match="its classes are b, a instead of a, b"):
        parity.require_labels(("a", "b"), ("b", "a"))


def test_another_kind_of_answer_fails() -> None:
    message = refusal(BASE, Classification(9, 9, np.array([1.0], np.float32)))
    assert "one side's task is Detection, and the other's Classification" in message


def class_map(numbers: Any) -> ClassMap:
    return ClassMap(20, 10, NumberMap.of(numbers))


def test_maps_may_differ_in_a_hundredth_of_their_pixels() -> None:
    numbers: Any = np.zeros((10, 20), int)
    other, another = numbers.copy(), numbers.copy()
    other[0, :2], another[0, :3] = 1, 1
    assert parity.compare([class_map(numbers)], [class_map(other)], 0.25).scores == pytest.approx(0.01)
    with pytest.raises(RefusedError, match=r"scores by up to 0\.0150"):
        parity.compare([class_map(numbers)], [class_map(another)], 0.25)


def segments(numbers: Any, scores: list[float]) -> Segments:
    ids: Any = np.zeros(len(scores), np.int32)
    return Segments(20, 10, NumberMap.of(numbers), np.array(scores, np.float32), ids, (True,) * len(scores))


def test_segments_are_paired_by_their_pixels_whatever_their_order() -> None:
    numbers: Any = np.zeros((10, 20), int)
    numbers[:5, :10], numbers[5:, 10:] = 1, 2
    swapped = np.array([0, 2, 1])[numbers]
    known = segments(numbers, [0.9, 0.89])
    found = parity.compare([known], [segments(swapped, [0.892, 0.891])], 0.25)
    assert found.scores == pytest.approx(0.009, abs=0.002)
    with pytest.raises(RefusedError, match="the training model alone finds 1 of 2 segments"):
        parity.compare([known], [segments(np.minimum(numbers, 1) * (numbers == 1), [0.9])], 0.25)
