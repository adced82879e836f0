"""A model's findings as pages draw them: boxes, turned boxes and masks in the image's pixels, and a table of the same."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from catalogued import DETECTIONS
from pelagos_contract import run_lengths
from pelagos_contract.run_lengths import Part
from pelagos_hub.catalogue.answers import MOST_FOUND, Shape, answer

SIZE = (800, 500)


def drawn(shape: Shape | None, size: tuple[int, int]) -> Any:
    """The pixels that a path fills, as an image of ``size`` (height, width)."""
    assert shape is not None
    pixels: Any = np.zeros(size, bool)
    for column, top, rows in re.findall(r"M(\d+) (\d+)h1v(\d+)h-1z", shape.attributes["d"]):
        pixels[int(top) : int(top) + int(rows), int(column)] = True
    return pixels


def test_boxes_are_drawn_where_they_are_and_told_in_words() -> None:
    found = answer(DETECTIONS, SIZE)

    first = found.found[0]
    assert first.shape == Shape("rect", {"x": "120.0", "y": "80.0", "width": "140.5", "height": "110.2"})
    assert (first.where, first.score, found.measure) == ("120, 80; 140 × 110", 0.93, "score")
    assert found.labels[0] == ("Chaetoceros", 0, 2)


def test_turned_boxes_are_drawn_by_their_corners() -> None:
    entry = {"label": "a", "score": 0.5, "box": [50, 60, 40, 10, 45.0], "corners": [1, 2, 3, 4, 5, 6, 7, 8]}

    (found,) = answer({"task": "OrientedDetection", "detections": [entry]}, SIZE).found

    assert found.shape == Shape("polygon", {"points": "1.0,2.0 3.0,4.0 5.0,6.0 7.0,8.0"})
    assert found.where == "50, 60; 40 × 10, turned 45°"


@pytest.mark.parametrize("seed", range(8))
def test_masks_are_drawn_pixel_by_pixel_as_coco_means_them(seed: int) -> None:
    chance = np.random.default_rng(seed)
    height, width = 1 + seed * 7, 60 - seed * 5
    pixels = chance.random((height, width)) < (0.02, 0.5, 0.98, 0.3)[seed % 4]
    mask = {"size": [height, width], "counts": run_lengths.encoded(Part(0, 0, pixels), (height, width))}

    (found,) = answer({"instances": [{"label": "a", "score": 1, "mask": mask}]}, SIZE).found

    assert (drawn(found.shape, (height, width)) == pixels).all()
    assert found.shape is not None
    assert found.shape.stretched == (800 / width, 500 / height)


def test_a_mask_of_empty_runs_is_none_and_costs_no_time() -> None:
    mask = {"size": [4000, 4000], "counts": "0" * 60_000}
    found = answer({"instances": [{"label": "weed", "mask": mask}] * 500}, (4000, 4000))

    assert not found.has_shapes
    assert any("too large to draw" in note for note in found.notes)


def test_long_runs_that_go_over_several_columns_are_drawn_in_each() -> None:
    pixels: Any = np.zeros((7, 500), bool)
    pixels[:, 30:480] = True
    mask = {"size": [7, 500], "counts": run_lengths.encoded(Part(0, 0, pixels), (7, 500))}

    (found,) = answer({"segments": [{"label": "sea", "share": 0.9, "mask": mask}]}, SIZE).found

    assert (drawn(found.shape, (7, 500)) == pixels).all()


def test_classes_have_probabilities_and_nothing_to_draw() -> None:
    classes = [{"label": "a", "probability": 0.75}, {"label": "b", "probability": 0.25}]

    found = answer({"task": "Classification", "classes": classes, "decided": False}, SIZE)

    assert (found.measure, found.has_shapes, [each.score for each in found.found]) == (
        "probability",
        False,
        [0.75, 0.25],
    )
    assert "not sure enough" in found.notes[0]


def test_more_than_a_page_can_bear_is_left_out_and_said() -> None:
    many = [{"label": "a", "score": 0.5, "box": [0, 0, 1, 1]}] * 3000

    found = answer({"detections": many, "cut": True}, SIZE)

    assert (len(found.found), found.total) == (MOST_FOUND, 3000)
    assert "500 of 3000" in found.notes[0]
    assert "more than it reports" in found.notes[1]


def test_masks_that_would_take_too_much_are_left_out_and_said() -> None:
    noise = np.random.default_rng(1).random((600, 600)) < 0.5
    mask = {"size": [600, 600], "counts": run_lengths.encoded(Part(0, 0, noise), (600, 600))}

    found = answer({"instances": [{"label": "a", "score": 1, "mask": mask}]}, SIZE)

    assert found.found[0].shape is None
    assert "too large to draw" in found.notes[0]


HOSTILE: list[dict[str, Any]] = [
    {},
    {"detections": None},
    {"detections": "text"},
    {"detections": [1, None, "x", []]},
    {"detections": [{"label": ["a"], "score": "NaN", "box": [1, 2, 3]}]},
    {"detections": [{"label": "a" * 10**6, "score": 1e308, "box": [1e308, -1e308, 5, "6"]}]},
    {"detections": [{"box": [5, 5, 1, 1], "score": -3}]},
    {"detections": [{"corners": [True] * 8, "box": {}}]},
    {"instances": [{"mask": {"size": [0, 10], "counts": "0"}}]},
    {"instances": [{"mask": {"size": [10**9, 10**9], "counts": "0"}}]},
    {"instances": [{"mask": {"size": [10, 10], "counts": "o" * 10**6}}]},
    {"instances": [{"mask": {"size": [10, 10], "counts": "P" * 10**5}}]},
    {"instances": [{"mask": {"size": [10, 10], "counts": "\u2028é"}}]},
    {"classes": [{"probability": {}}], "error": "\x1b[31m" * 1000, "task": 7},
]


@pytest.mark.parametrize("prediction", HOSTILE, ids=range(len(HOSTILE)))
def test_an_answer_that_is_none_is_drawn_in_bounds(prediction: dict[str, Any]) -> None:
    found = answer(prediction, SIZE)

    assert len(repr(found)) < 20_000
    assert "\x1b" not in repr(found)
    assert all(each.score is None or 0 <= each.score <= 1 for each in found.found)


def test_no_counts_at_all_can_draw_outside_of_the_image() -> None:
    chance = random.Random(3)
    for _ in range(300):
        counts = "".join(chr(48 + chance.randrange(64)) for _ in range(chance.randrange(1, 60)))
        found = answer({"instances": [{"label": "a", "mask": {"size": [12, 9], "counts": counts}}]}, SIZE).found[0]
        for column, top, rows in re.findall(
            r"M(\d+) (\d+)h1v(\d+)", found.shape.attributes["d"] if found.shape else ""
        ):
            assert int(column) < 9
            assert int(top) + int(rows) <= 12
