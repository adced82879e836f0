"""Merging of what was found in the tiles of a large image."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from pelagos.cli import tiles
from pelagos_contract import run_lengths
from pelagos_contract.answers import merging, pixel_tiles
from pelagos_contract.answers.pixel_tiles import Asked, MisfitError
from pelagos_contract.tiles import Place, places

LEFT, RIGHT = Place(0, 0, 100, 100), Place(80, 0, 100, 100)
SIZE = (180, 100)


def found(label: str, score: float, *box: float) -> dict[str, Any]:
    return {"label": label, "classId": len(label), "score": score, "box": list(box)}


def merged(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    answers = [
        Asked(place, {"task": "Detection", "detections": listed}) for place, listed in ((LEFT, left), (RIGHT, right))
    ]
    return [(one["score"], *one["box"]) for one in merging.merged(SIZE, answers)["detections"]]


def test_what_both_tiles_show_is_there_once_with_the_better_score() -> None:
    assert merged([found("cod", 0.8, 85, 10, 95, 20)], [found("cod", 0.9, 5.5, 10, 15, 20)]) == [
        (0.9, 85.5, 10, 95, 20)
    ]


def test_what_an_edge_cuts_gives_way_to_the_whole_whatever_the_scores() -> None:
    assert merged([found("cod", 0.9, 85, 10, 100, 30)], [found("cod", 0.4, 5, 10, 50, 30)]) == [(0.4, 85, 10, 130, 30)]


def test_an_edge_of_the_image_cuts_nothing() -> None:
    whole, other = found("cod", 0.9, 82, 0, 92, 30), found("cod", 0.8, 2, 0, 12, 30)
    assert merged([whole], [other]) == [(0.9, 82, 0, 92, 30)]


def test_other_classes_and_neighbours_in_one_tile_stay() -> None:
    crowd = [found("cod", 0.9, 82, 10, 97, 30), found("cod", 0.8, 84, 10, 97, 30)]
    assert len(merged(crowd, [])) == 2
    assert len(merged([found("cod", 0.9, 85, 10, 95, 20)], [found("ray!", 0.8, 5, 10, 15, 20)])) == 2


def test_boxes_that_share_half_or_less_of_the_smaller_one_stay() -> None:
    assert len(merged([found("cod", 0.9, 80, 10, 90, 20)], [found("cod", 0.8, 5, 10, 15, 20)])) == 2
    assert len(merged([found("cod", 0.9, 80, 10, 90, 20)], [found("cod", 0.8, 4, 10, 14, 20)])) == 1


def test_what_is_dropped_drops_nothing_else() -> None:
    """The middle one is a duplicate of the best; the last one is a duplicate of the middle one alone."""
    best, middle = found("cod", 0.9, 81, 10, 89, 20), found("cod", 0.8, 4, 10, 12, 20)
    last = found("cod", 0.7, 89.5, 10, 97, 20)
    assert len(merged([best, last], [middle])) == 2


def test_nothing_found_is_nothing() -> None:
    answers = [Asked(LEFT, {"task": "Detection", "detections": [], "cut": True})]
    content = merging.merged((100, 100), answers)
    assert content == {"task": "Detection", "width": 100, "height": 100, "cut": True, "detections": [], "tiles": 1}


@pytest.mark.parametrize("lie", [None, {}, {"size": 0, "overlap": 0}, {"size": 512, "overlap": 300}, {"size": "a"}, 7])
def test_an_answer_that_declares_no_sensible_tile_declares_none(lie: object) -> None:
    assert tiles.declared({} if lie is None else {"tile": lie}) is None
    assert tiles.declared({"tile": {"size": 512, "overlap": 64}}) is not None


def test_masks_are_of_the_whole_image() -> None:
    inside: Any = np.ones((10, 10), bool)
    mask = run_lengths.encoded(run_lengths.Part(5, 10, inside), (100, 100))
    one = found("cod", 0.9, 5, 10, 15, 20) | {"mask": {"size": [100, 100], "counts": mask}, "area": 100}
    answers = [
        Asked(place, {"task": "InstanceSegmentation", "instances": listed})
        for place, listed in ((LEFT, []), (RIGHT, [one]))
    ]

    (moved,) = merging.merged(SIZE, answers)["instances"]

    assert (moved["box"], moved["mask"]["size"], moved["area"]) == ([85, 10, 95, 20], [100, 180], 100)
    one["mask"]["counts"] = "04"
    with pytest.raises(MisfitError, match="does not fit it: a mask has runs that do not fit an image of 100 x 100"):
        merging.merged(SIZE, answers)
    left, top, pixels = run_lengths.part_of(moved["mask"]["counts"], (100, 180))
    assert (left, top, pixels.shape, pixels.all()) == (85, 10, (10, 10), True)


def bar(score: float, x: float, y: float, length: float, angle: float) -> dict[str, Any]:
    """A box 6 pixels wide in a tile."""
    turn = math.radians(angle)
    along, across = (
        (length / 2 * math.cos(turn), length / 2 * math.sin(turn)),
        (-3 * math.sin(turn), 3 * math.cos(turn)),
    )
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = [[x + one * along[0] + other * across[0], y + one * along[1] + other * across[1]] for one, other in signs]
    return {"label": "cod", "classId": 3, "score": score, "box": [x, y, length, 6, angle], "corners": corners}


def merged_turned(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = ((LEFT, left), (RIGHT, right))
    answers = [Asked(place, {"task": "OrientedDetection", "detections": listed}) for place, listed in found]
    merged: list[dict[str, Any]] = merging.merged(SIZE, answers)["detections"]
    return merged


def test_turned_boxes_are_moved_with_their_corners_and_kept_once() -> None:
    (one,) = merged_turned([bar(0.8, 88, 50, 12, 45)], [bar(0.9, 8.5, 50, 12, 45)])
    assert (one["score"], one["box"]) == (0.9, [88.5, 50, 12, 6, 45])
    assert sum(x for x, _ in one["corners"]) / 4 == pytest.approx(88.5, abs=0.01)


def test_turned_boxes_that_cross_stay_though_the_boxes_around_them_are_one() -> None:
    assert len(merged_turned([bar(0.8, 89, 50, 14, 45)], [bar(0.9, 9, 50, 14, 135)])) == 2


def test_a_turned_box_that_an_edge_cuts_gives_way_to_the_whole() -> None:
    cut, whole = bar(0.9, 93, 50, 18, 30), bar(0.4, 16, 51.5, 25, 30)
    assert [one["score"] for one in merged_turned([cut], [whole])] == [0.4]


def rows_of(numbers: Any, results: str) -> list[dict[str, Any]]:
    """A model's answer for a tile: class 1 is stuff, each number from 2 on an object of class 2."""
    found = []
    for number in np.unique(numbers[numbers > 0]):
        counts = run_lengths.encoded(run_lengths.Part(0, 0, numbers == number), numbers.shape)
        row: dict[str, Any] = {"label": "sand" if number == 1 else "cod", "classId": min(int(number), 2) - 1}
        row |= {"area": int((numbers == number).sum()), "mask": {"size": list(numbers.shape), "counts": counts}}
        row |= (
            {"id": int(number), "isThing": number > 1, "score": 0.5 + int(number) / 100}
            if results == "segments"
            else {}
        )
        found.append(row)
    return found


def pixels_merged(whole: Any, task: str, results: str) -> dict[str, Any]:
    """The merged answers of a model that is right in each of six tiles, and numbers its objects from scratch in each."""
    answers = []
    for x in (0, 80, 160):
        for y in (0, 50):
            part = whole[y : y + 100, x : x + 100]
            known = np.unique(part)
            own = np.where(part > 1, np.searchsorted(known, part) + 2, part)
            content = {"task": task, "cut": False, results: rows_of(part if results == "classes" else own, results)}
            answers.append(Asked(Place(x, y, 100, 100), content))
    return merging.merged((260, 150), answers)


def test_classes_of_pixels_are_what_they_are_in_the_whole_image() -> None:
    whole: Any = np.zeros((150, 260), int)
    whole[40:, :], whole[20:90, 60:200] = 1, 2
    found = pixels_merged(whole, "SemanticSegmentation", "classes")

    assert [(one["label"], one["area"]) for one in found["classes"]] == [
        ("sand", int((whole == 1).sum())),
        ("cod", 70 * 140),
    ]
    assert found["unclassified"]["area"] == int((whole == 0).sum())
    assert found["tiles"] == 6
    for number, one in ((1, found["classes"][0]), (2, found["classes"][1])):
        part = run_lengths.part_of(one["mask"]["counts"], (150, 260))
        rows, columns = part.inside.shape
        assert np.array_equal(
            part.inside, (whole == number)[part.top : part.top + rows, part.left : part.left + columns]
        )


def test_an_object_that_several_tiles_show_is_one_segment() -> None:
    whole: Any = np.zeros((150, 260), int)
    whole[100:], whole[20:40, 60:200], whole[60:90, 85:95], whole[60:90, 5:20] = 1, 2, 3, 4
    found = pixels_merged(whole, "PanopticSegmentation", "segments")

    areas = sorted((one["label"], one["area"]) for one in found["segments"])
    assert areas == [("cod", 300), ("cod", 450), ("cod", 2800), ("sand", 50 * 260)]
    assert [one["id"] for one in found["segments"]] == [1, 2, 3, 4]


def test_thousands_of_segments_of_hundreds_of_tiles_are_put_together_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Work and memory grow with the pixels: with a map of the image for each segment they would be ten times as much."""
    monkeypatch.setattr(pixel_tiles, "AT_ONCE", 2**18)
    side = 1000
    across: Any = np.arange(side) // 20
    whole: Any = (across[:, None] * 100 + across + 2) * (
        (np.arange(side) % 20 > 3) & (np.arange(side)[:, None] % 20 > 3)
    )
    where = places(side, side, 200, 40)
    answers = []
    for place in where:
        part = whole[place.y : place.y + place.height, place.x : place.x + place.width]
        _, own = np.unique(part, return_inverse=True)
        numbers = own.reshape(part.shape)
        answers.append(
            Asked(place, {"task": "PanopticSegmentation", "segments": rows_of(numbers + (numbers > 0), "segments")})
        )
    tracemalloc.start()
    try:
        found = merging.merged((side, side), answers)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert {one["area"] for one in found["segments"]} == {16 * 16}
    assert len(found["segments"]) == 50 * 50
    assert most < 2**26


def test_pixels_that_do_not_fit_their_tile_are_refused() -> None:
    row = rows_of(np.ones((90, 100), int), "classes")
    answers = [Asked(LEFT, {"task": "SemanticSegmentation", "classes": row})]
    with pytest.raises(MisfitError, match="the answer for a tile does not fit it"):
        merging.merged((100, 100), answers)
