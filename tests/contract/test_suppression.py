"""Of overlapping boxes the best one is kept, exactly as if each box were compared with each other."""

from __future__ import annotations

import numpy as np
import pytest

from pelagos_contract.suppression import nms

Box = list[float]


def by_comparing_all(boxes: list[Box], iou: float) -> list[int]:
    kept: list[int] = []
    for place, box in enumerate(boxes):
        if all(overlap(box, boxes[other]) <= iou for other in kept):
            kept.append(place)
    return kept


def overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / total if total > 0 else 0.0


def some_boxes(seed: int, largest: float, count: int = 150) -> list[Box]:
    """Boxes of all sizes; some without an area, some inverted, and some similar to a better one."""
    generator = np.random.default_rng(seed)
    centres, sizes = generator.uniform(0, 100, (count, 2)), generator.uniform(0, largest, (count, 2))
    sizes[::9] *= 0
    sizes[::11] *= -1
    boxes = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1).round(2)
    boxes[::13] = boxes[0]
    found: list[Box] = boxes.tolist()
    return found


@pytest.mark.parametrize("iou", [0.0, 0.0005, 0.002, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("largest", [0.05, 20, 400])
def test_those_that_survive_are_the_same_as_when_all_are_compared(largest: float, iou: float) -> None:
    for seed in range(5):
        boxes = some_boxes(seed, largest)
        assert nms(np.array(boxes), iou) == (by_comparing_all(boxes, iou), False)


def test_a_tiny_box_is_found_to_lie_in_a_huge_one_whose_centre_is_far_away() -> None:
    assert nms(np.array([[0, 0, 0.01, 0.01], [0, 0, 400, 400.0]]), 0.0) == ([0], False)


@pytest.mark.parametrize(("limit", "kept", "more"), [(1, [0], True), (2, [0, 2], False), (3, [0, 2], False)])
def test_more_are_said_to_survive_only_when_some_would(limit: int, kept: list[int], more: bool) -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float32)
    assert nms(boxes, 0.5, limit) == (kept, more)


def test_of_no_boxes_none_survives() -> None:
    assert nms(np.zeros((0, 4), np.float32), 0.7) == ([], False)
