"""The bounding box of polygons and masks, compared with COCO's own tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as masks

from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations import outlines


def _uncompressed(drawn: Any) -> list[int]:
    """Runs down the columns, beginning with zeros."""
    flat = drawn.ravel(order="F")
    edges: Any = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [len(flat)]))).tolist()
    return [0, *runs] if flat[0] else runs


@given(
    drawn=st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.just(0))
    )
)
def test_the_box_of_a_mask_is_exact(drawn: Any) -> None:
    height, width = drawn.shape
    if not drawn.any():
        drawn[height // 2, width // 2] = 1
    encoded = masks.encode(np.asfortranarray(drawn))
    expected = tuple(masks.toBbox(encoded).tolist())

    compressed = {"size": [height, width], "counts": encoded["counts"].decode()}
    assert outlines.box_of(compressed, "here", (width, height)) == expected
    assert outlines.box_of({"size": [height, width], "counts": _uncompressed(drawn)}, "here", None) == expected


def test_the_box_of_a_large_mask_is_exact_too() -> None:
    drawn: Any = np.zeros((3000, 2000), np.uint8, order="F")
    drawn[2000:2999, 1500:1999:2] = 1
    encoded = masks.encode(drawn)
    found = outlines.box_of({"size": [3000, 2000], "counts": encoded["counts"].decode()}, "here", None)
    assert found == tuple(masks.toBbox(encoded).tolist())


@pytest.mark.parametrize(
    ("outline", "box"),
    [
        pytest.param([[1, 2, 5, 2, 5, 8]], (1, 2, 4, 6), id="one polygon"),
        pytest.param([[1, 2, 5, 2, 5, 8], [10, 0, 12, 1, 11, 3]], (1, 0, 11, 8), id="two parts"),
        pytest.param([1, 2, 5, 2, 5, 8.5], (1, 2, 4, 6.5), id="not in a list of polygons"),
    ],
)
def test_the_box_of_polygons_is_around_all_parts(outline: object, box: tuple[float, ...]) -> None:
    assert outlines.box_of(outline, "here", None) == box


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        ("canary", "is neither a list of polygons nor a mask"),
        ([[1, 2, 3, 4]], "has a polygon of 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "has a polygon of 7 numbers"),
        ([[]], "has a polygon of 0 numbers"),
        ([[1, 2, 3, 4, 5, None]], "finite numbers"),
        ([[1, 2, 3, 4, 5, 10**400]], "finite numbers"),
        ([[1, 2, 3, 4, 5, 6], 7], "finite numbers|polygon of 2 numbers"),
        ({"size": [2, 2], "counts": [4]}, "without a pixel"),
        ({"size": [2, 2], "counts": [1, 2]}, "adds up to 3 pixels; 2 x 2 are 4"),
        ({"size": [2, 2], "counts": [1, -1, 4]}, "not a run-length encoding"),
        ({"size": [2, 2], "counts": "\x00"}, "not a run-length encoding"),
        ({"size": [2, 2], "counts": "o" * 100}, "not a run-length encoding"),
        ({"size": [2, 2], "counts": "o"}, "ends within a number"),
        ({"size": [2], "counts": [4]}, "size must be"),
        ({"size": [4, 4], "counts": [0, 16]}, "is 4 x 4 pixels, but the image has 2 x 2"),
    ],
)
def test_what_is_no_outline_is_refused_with_its_place(outline: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        outlines.box_of(outline, "annotations[3].segmentation", (2, 2))
    assert caught.value.failure.message.startswith("annotations[3].segmentation")
    assert "canary" not in caught.value.failure.message
