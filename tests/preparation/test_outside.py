"""cleaning.outside: annotations beyond their image are refused, cut or dropped, and every change is counted and named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelagos_contract.dataset import Cleaning
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.model import Box, Collection, Exclusion, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.preparation import cleaning
from pelagos_pipelines.preparation.integrity import Inspection

WIDTH, HEIGHT = 40, 30


def clean(rule: str, *images: ImageRecord, task: Task = Task.DETECTION) -> cleaning.Cleaned:
    seen = {one.path: Inspection(one.path, 1, WIDTH, HEIGHT, one.path) for one in images}
    return cleaning.clean(Collection(task, ("cod", "eel"), images), seen, Cleaning.model_validate({"outside": rule}))


def boxed(name: str, *boxes: tuple[float, float, float, float]) -> ImageRecord:
    return ImageRecord(name, boxes=tuple(Box("cod", *box) for box in boxes))


def left(cleaned: cleaning.Cleaned) -> dict[str, list[tuple[float, ...]]]:
    return {
        image.path: [(box.x, box.y, box.width, box.height) for box in image.boxes]
        for image in cleaned.collection.images
    }


def counted(cleaned: cleaning.Cleaned) -> list[tuple[str, str, int]]:
    return [(each.kind, each.reason, each.annotations) for each in cleaned.collection.altered]


def refusal(rule: str, *images: ImageRecord) -> Failure:
    with pytest.raises(RefusedError) as caught:
        clean(rule, *images)
    return caught.value.failure


IMAGES = (
    boxed("a", (30, 20, 20, 20), (1, 1, 5, 5)),
    boxed("b", (-50, 0, 10, 10)),
    boxed("c"),
    boxed("d", (-0.5, 0, 10, 10)),
)


def test_boxes_are_cut_at_the_edge_and_those_elsewhere_dropped() -> None:
    done = clean("Clip", *IMAGES)

    assert left(done) == {"a": [(30, 20, 10, 10), (1, 1, 5, 5)], "c": [], "d": [(0, 0, 9.5, 10)]}
    assert done.excluded == (Exclusion("b", ExclusionReason.OUTSIDE_IMAGE),)
    assert counted(done) == [("rectangle", "Cut", 1), ("rectangle", "Outside", 1)]
    assert done.collection.warnings == (
        "1 boxes exceeded their image by up to 1 pixel and were cut at its edge",
        "1 annotations exceeded their image and were cut at its edge: a (cod: 30, 20, 20, 20)",
        "1 annotations do not lie on their image and were dropped: b (cod: -50, 0, 10, 10)",
        "1 images lost all their annotations so and are left out, as they are no backgrounds: b",
    )


def test_boxes_that_exceed_their_image_are_dropped() -> None:
    done = clean("Drop", *IMAGES)

    assert left(done) == {"a": [(1, 1, 5, 5)], "c": [], "d": [(0, 0, 9.5, 10)]}
    assert counted(done) == [("rectangle", "Outside", 2)]


def test_by_default_they_are_refused_with_what_can_be_done() -> None:
    failure = refusal("Fail", *IMAGES)

    assert failure.reason is Reason.ANNOTATION_OUTSIDE_IMAGE
    assert failure.message.startswith("2 boxes lie outside of their image")
    assert failure.message.endswith("or set cleaning.outside to Clip or Drop when they exceed their image")


@pytest.mark.parametrize("rule", ["Clip", "Drop"])
@pytest.mark.parametrize("box", [(5, 5, 0, 3), (5, 5, 3, -1), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)])
def test_what_is_no_box_is_refused_whatever_is_asked(rule: str, box: tuple[float, float, float, float]) -> None:
    assert "1 boxes lie outside of their image or have no area" in refusal(rule, boxed("a", box), boxed("c")).message


@pytest.mark.parametrize("rule", ["Clip", "Drop"])
def test_a_source_of_which_nothing_is_left_is_refused(rule: str) -> None:
    failure = refusal(rule, boxed("a", (100, 100, 5, 5)))

    assert (failure.reason, failure.field) == (Reason.ANNOTATION_OUTSIDE_IMAGE, "cleaning.outside")
    assert "all 1 annotations lie outside of their image" in failure.message


def test_of_less_than_a_pixel_nothing_is_left() -> None:
    assert left(clean("Clip", boxed("a", (39.5, 5, 10, 10), (39, 5, 10, 10)))) == {"a": [(39, 5, 1, 10)]}


COORDINATE = st.integers(-60, 90)
SIDE = st.integers(1, 80)


@given(st.lists(st.tuples(COORDINATE, COORDINATE, SIDE, SIDE), min_size=1, max_size=6))
def test_all_that_is_left_lies_on_the_image_and_all_else_is_counted(boxes: list[tuple[int, int, int, int]]) -> None:
    clipped = clean("Clip", boxed("a", *boxes, (1, 1, 2, 2)))
    dropped = clean("Drop", boxed("a", *boxes, (1, 1, 2, 2)))
    for done in (clipped, dropped):
        ((_, found),) = left(done).items()
        assert all(x >= 0 and y >= 0 and x + w <= WIDTH and y + h <= HEIGHT for x, y, w, h in found)
        gone = sum(count for _, reason, count in counted(done) if reason == "Outside")
        assert len(found) + gone == len(boxes) + 1
    assert {*left(dropped)["a"]} <= {*left(clipped)["a"]}


# --- shapes


def drawn(*found: Shape, rule: str = "Clip") -> tuple[list[Shape], list[tuple[str, str, int]]]:
    inside = shapes.rectangle("eel", 1, 1, 3, 3)
    done = clean(rule, ImageRecord("a", shapes=(*found, inside)), task=Task.INSTANCE_SEGMENTATION)
    (image,) = done.collection.images
    return [*image.shapes[:-1]], counted(done)


@pytest.mark.parametrize(
    "found",
    [
        shapes.polygon("cod", (-10, 5, 20, -15, 60, 10, 20, 50)),
        shapes.polygon("cod", (10, 5, 50, 5, 50, 25, 10, 25, 10, 20, 45, 20, 45, 10, 10, 10)),
        Shape("cod", Kind.CIRCLE, (38, 15, 10)),
        Shape("cod", Kind.ELLIPSE, (0, 15, 12, 6, 30)),
        masks.of_array("cod", np.tri(50, 60, dtype=bool), (-10, -5)),
        shapes.rectangle("cod", -5, 3, 20, 10, 0),
    ],
    ids=["polygon", "one in two parts", "circle", "ellipse", "mask", "rectangle"],
)
def test_what_is_left_of_a_shape_covers_the_same_pixels(found: Shape) -> None:
    (cut,), told = drawn(found)

    assert told == [(str(found.kind), "Cut", 1)]
    sides = cut.sides
    assert sides is not None
    assert sides[0] >= 0
    assert sides[1] >= 0
    assert sides[0] + sides[2] <= WIDTH + 1e-9
    assert sides[1] + sides[3] <= HEIGHT + 1e-9
    before = shapes.outlined(found) or found
    after = shapes.outlined(cut) or cut
    assert np.array_equal(masks.drawn(before, WIDTH, HEIGHT), masks.drawn(after, WIDTH, HEIGHT))


def test_a_hole_is_cut_with_its_polygon() -> None:
    found = Shape("cod", Kind.POLYGON, (-10, 2, 30, 2, 30, 28, -10, 28, -5, 10, 20, 10, 20, 20, -5, 20), (4, -4))
    (cut,), _ = drawn(found)

    assert [is_hole for _, is_hole in cut.outlines] == [False, True]
    assert masks.drawn(cut, WIDTH, HEIGHT).sum() == 30 * 26 - 20 * 10


@pytest.mark.parametrize(
    "found",
    [
        shapes.polygon("cod", (50, 5, 60, 5, 60, 10)),
        shapes.polygon("cod", (30, -10, 60, 20, 60, -10)),
        shapes.rectangle("cod", 60, 10, 9, 9, 45),
        masks.of_array("cod", np.ones((3, 3), bool), (45, 5)),
    ],
    ids=["polygon", "polygon around a corner", "turned", "mask"],
)
def test_a_shape_elsewhere_is_dropped(found: Shape) -> None:
    assert drawn(found) == ([], [(str(found.kind), "Outside", 1)])


def test_shapes_that_exceed_their_image_are_dropped() -> None:
    found: Any = shapes.polygon("cod", (-10, 5, 20, -15, 60, 10, 20, 50))
    assert drawn(found, rule="Drop") == ([], [("polygon", "Outside", 1)])


def test_kept_duplicates_of_an_image_that_is_left_out_belong_to_each_other() -> None:
    images = boxed("a", (-50, 0, 10, 10)), boxed("b", (1, 1, 5, 5)), boxed("c", (1, 1, 5, 5))
    seen = {one.path: Inspection(one.path, 1, WIDTH, HEIGHT, "the same") for one in images}
    rules = Cleaning.model_validate({"outside": "Drop", "duplicates": {"action": "Keep"}})

    done = cleaning.clean(Collection(Task.DETECTION, ("cod",), images), seen, rules)

    assert [*left(done)] == ["b", "c"]
    assert done.repeats == {"c": "b"}
