"""Images are told apart by what capture says of them, by local time, in bands, and by groups; what is not known is no value."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pelagos_contract.capture import SLICE_FIELDS
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation import slices
from pelagos_pipelines.evaluation.samples import Sample

CAPTURES = (
    Capture("azores", "dive-1", "ROV", "2024-05-31T23:30:00-10:00", 9.9, 38.6, -28.1),
    Capture("madeira", "dive-2", "ROV", "2024-06-01", 7000.0, -0.5, 180.0),
    Capture(latitude=90.0),
    None,
)
EXPECTED = {
    "site": ("azores", "madeira", None, None),
    "deployment": ("dive-1", "dive-2", None, None),
    "platform": ("ROV", "ROV", None, None),
    "day": ("2024-05-31", "2024-06-01", None, None),
    "month": ("05", "06", None, None),
    "hour": ("23", None, None, None),
    "depthBand": ("0 to 10 m", "6000 m and deeper", None, None),
    "positionBand": ("38° N, 29° W", "1° S, 179° E", None, None),
    "group": ("a", "a", None, None),
}


def make_samples() -> list[Sample]:
    return [
        Sample(f"{n}.png", Path("x"), np.zeros(1, int), np.zeros((0, 4)), group="a" if n < 2 else None, capture=capture)
        for n, capture in enumerate(CAPTURES)
    ]


def test_every_field_has_a_value_where_it_is_known() -> None:
    assert {field: slices.values(make_samples(), field) for field in SLICE_FIELDS} == EXPECTED


def test_fields_that_no_image_has_are_not_known() -> None:
    assert slices.known(make_samples()) == list(SLICE_FIELDS)
    assert slices.known(make_samples()[2:]) == []
