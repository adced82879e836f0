"""Shapes of every kind: their bounding boxes, the pixels they cover, and values that no shape can have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from pelagos_pipelines.annotations import masks, shapes, yolo_shapes
from pelagos_pipelines.annotations.shapes import Kind, Shape


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        (shapes.rectangle("a", 10, 20, 30, 40), (10, 20, 30, 40)),
        (shapes.rectangle("a", 10, 20, 30, 40, 90), (5, 25, 40, 30)),
        (shapes.polygon("a", [1, 2, 5, 2, 5, 8]), (1, 2, 4, 6)),
        (Shape("a", Kind.CIRCLE, (10, 10, 3)), (7, 7, 6, 6)),
        (Shape("a", Kind.ELLIPSE, (10, 10, 4, 2, 0)), (6, 8, 8, 4)),
        (Shape("a", Kind.ELLIPSE, (10, 10, 4, 2, 90)), (8, 6, 4, 8)),
        (masks.of_array("a", [[0, 1, 1], [0, 1, 0]], (5, 7)), (6, 7, 2, 2)),
        (Shape("a", Kind.POINT, (1, 2)), None),
        (Shape("a", Kind.LINE, (1, 2, 3, 4)), None),
        (Shape("a", Kind.TAG), None),
        (Shape("a", Kind.KEY_POINTS, (1, 2, 2), box=(0, 0, 5, 5)), (0, 0, 5, 5)),
    ],
    ids=lambda value: str(getattr(value, "kind", "")),
)
def test_the_box_around_a_shape(shape: Shape, sides: Any) -> None:
    assert shape.sides == (None if sides is None else pytest.approx(sides))


@pytest.mark.parametrize(
    ("kind", "coordinates", "rings", "words"),
    [
        (Kind.RECTANGLE, (1, 2, -3, 4, 0), (), "negative size"),
        (Kind.RECTANGLE, (1, 2, 3, 4), (), "4 numbers instead of 5"),
        (Kind.CIRCLE, (1, 2, -1), (), "negative size"),
        (Kind.POLYGON, (1, 2, 3, 4), (2,), "fewer than three points"),
        (Kind.POLYGON, (1, 2, 3, 4, 5, 6), (-3,), "only holes"),
        (Kind.POLYGON, (1, 2, 3, 4, 5, 6), (4,), "not x and y of all its points"),
        (Kind.LINE, (1, 2), (), "two points or more"),
        (Kind.KEY_POINTS, (1, 2), (), "x, y and visibility"),
        (Kind.MASK, (0, 0, 2, 2, 1, 2), (), "2 x 2 are 4"),
        (Kind.MASK, (0, 0, 2, 2, 4, 0), (), "has no pixel"),
        (Kind.POINT, (math.nan, 1), (), "not a number of pixels"),
        (Kind.POINT, (math.inf, 1), (), "not a number of pixels"),
        (Kind.POINT, (1e12, 1), (), "not a number of pixels"),
    ],
)
def test_what_is_no_shape_is_refused(kind: Kind, coordinates: Any, rings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Shape("a", kind, coordinates, rings)


@given(
    st.floats(0, 500),
    st.floats(0, 500),
    st.floats(1, 300),
    st.floats(1, 300),
    st.floats(0, 359.9),
    st.booleans(),
)
def test_the_corners_of_a_rectangle_are_those_of_it_alone(
    left: float, top: float, width: float, height: float, angle: float, other_way: bool
) -> None:
    drawn = shapes.rectangle("a", left, top, width, height, angle)
    corners = shapes.corners_of(drawn)
    if other_way:
        corners = (*corners[:2], *corners[6:], *corners[4:6], *corners[2:4])

    found = shapes.turned(corners, "a")

    assert found is not None
    back: Any = np.reshape(shapes.corners_of(found), (4, 2))
    near = np.abs(back[:, None] - np.reshape(corners, (4, 2))[None]).max(axis=2)
    assert near.min(axis=1).max() < 1e-6
    assert found.coordinates[2] * found.coordinates[3] == pytest.approx(width * height)


def test_four_corners_that_are_no_rectangle_are_none() -> None:
    assert shapes.turned((0, 0, 10, 0, 14, 10, 0, 10), "a") is None


@given(st.floats(0.5, 200), st.floats(0.5, 200), st.floats(0, 180))
def test_the_smallest_rectangle_around_a_turned_one_is_itself(width: float, height: float, angle: float) -> None:
    corners = shapes.corners_of(shapes.rectangle("a", 50, 50, width, height, angle))

    around = shapes.smallest_rectangle(shapes.polygon("a", corners))

    assert around is not None
    assert around.coordinates[2] * around.coordinates[3] == pytest.approx(width * height, rel=1e-6)


def test_an_ellipse_becomes_a_polygon_within_a_tenth_of_a_pixel() -> None:
    outline = shapes.outlined(Shape("a", Kind.ELLIPSE, (100, 100, 80, 30, 20)))

    assert outline is not None
    (ring, is_hole) = next(outline.outlines)
    xs, ys = np.asarray(ring[::2]), np.asarray(ring[1::2])
    area = abs(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1))) / 2
    assert not is_hole
    assert area == pytest.approx(math.pi * 80 * 30, rel=0.003)


pictures = st.integers(1, 9).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=9)
)


@settings(max_examples=150)
@given(pictures.filter(lambda rows: any(map(any, rows))))
def test_a_mask_is_the_same_in_every_encoding(rows: list[list[bool]]) -> None:
    pixels = np.asarray(rows)
    height, width = pixels.shape
    mask = masks.of_array("a", pixels)

    assert (masks.on_image(mask, width, height) == pixels).all()
    assert masks.of_columns("a", masks.columns_of(pixels), (width, height)) == mask
    encoded = coco_masks.encode(np.asfortranarray(pixels.astype(np.uint8)))
    assert masks.compressed(masks.columns_of(pixels)).encode() == encoded["counts"]
    # A ring along the edges of its pixels covers exactly these pixels.
    ring = yolo_shapes.joined(masks.rings_of(mask))
    assert (masks.drawn(shapes.polygon("a", ring), width, height) == pixels).all()


def test_a_mask_of_many_specks_is_one_ring_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels: Any = np.indices((40, 60)).sum(axis=0) % 2 == 0
    mask = masks.of_array("a", pixels)

    ring = yolo_shapes.joined(masks.rings_of(mask))

    assert len(masks.rings_of(mask)) == 1200
    assert (masks.drawn(shapes.polygon("a", ring), 60, 40) == pixels).all()


def test_a_hole_is_no_part_of_a_polygon() -> None:
    frame = shapes.polygon("a", [0, 0, 6, 0, 6, 6, 0, 6], holes=[[2, 2, 4, 2, 4, 4, 2, 4]])

    pixels = masks.drawn(frame, 8, 8)

    assert pixels.sum() == 32
    assert not pixels[2:4, 2:4].any()


@pytest.mark.parametrize(
    "shape",
    [
        shapes.rectangle("cod", 1, 2, 3, 4, 30, attributes={"occluded": "true"}, annotator="ada", confidence=0.5),
        shapes.polygon("cod", [0, 0, 6, 0, 6, 6], holes=[[2, 2, 4, 2, 4, 4]], box=(0, 0, 6, 6), origin="17"),
        Shape("cod", Kind.KEY_POINTS, (1, 2, 2, 3, 4, 0), points=("head", "tail")),
    ],
)
def test_a_shape_is_the_same_after_its_document(shape: Shape) -> None:
    assert Shape.restored(shape.document()) == shape
