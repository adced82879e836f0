"""What people made of suggestions is counted as evaluation counts detections: by overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelagos_pipelines.annotations import shapes
from pelagos_pipelines.annotations.corrections import Corrected, compare
from pelagos_pipelines.annotations.shapes import Kind, Shape


def box(left: float, label: str = "cod", *, top: float = 0, width: float = 10, height: float = 10) -> Shape:
    return shapes.rectangle(label, left, top, width, height)


@pytest.mark.parametrize(
    ("predicted", "kept", "counts"),
    [
        ([box(0)], [box(0.4)], {"accepted": 1}),
        ([box(0)], [box(2)], {"moved": 1}),
        ([box(0)], [box(0, "eel")], {"relabelled": 1}),
        ([box(0)], [box(2, "eel")], {"relabelled": 1}),
        ([box(0)], [box(6)], {"removed": 1, "added": 1}),
        ([box(0)], [], {"removed": 1}),
        ([], [box(0)], {"added": 1}),
        ([box(0), box(1)], [box(1)], {"accepted": 1, "removed": 1}),
        ([box(0, "eel"), box(0)], [box(0)], {"accepted": 1, "removed": 1}),
        ([Shape("cod", Kind.TAG)], [Shape("cod", Kind.TAG)], {"accepted": 1}),
        ([Shape("cod", Kind.TAG)], [Shape("eel", Kind.TAG)], {"removed": 1, "added": 1}),
        ([Shape("cod", Kind.POINT, (1, 2))], [Shape("cod", Kind.POINT, (1, 2))], {"accepted": 1}),
    ],
)
def test_each_suggestion_has_one_fate(predicted: list[Shape], kept: list[Shape], counts: dict[str, int]) -> None:
    found = compare(predicted, kept)

    assert {name: count for name, count in found.items() if count and name != "predicted"} == counts


boxes = st.lists(st.builds(box, st.integers(0, 60), st.sampled_from(["cod", "eel"])), max_size=6)


@given(boxes, boxes)
def test_the_counts_add_up_to_both_lists(predicted: list[Shape], kept: list[Shape]) -> None:
    found = compare(predicted, kept)

    paired = sum(found[name] for name in ("accepted", "moved", "relabelled") if name in found)
    assert paired + found["removed"] == len(predicted) == found["predicted"]
    assert paired + found["added"] == len(kept)


def test_models_are_counted_apart() -> None:
    corrected = Corrected()
    corrected.add("pelagos/b", [box(0)], [box(0)])
    corrected.add("pelagos/a", [box(0)], [])
    corrected.add("pelagos/b", [], [box(0)])

    assert [(each.model, each.images, each.accepted, each.added, each.removed) for each in corrected] == [
        ("pelagos/a", 1, 0, 0, 1),
        ("pelagos/b", 2, 1, 1, 0),
    ]
