"""Rows of YOLO boxes have exactly the digits that printf writes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pelagos_pipelines.annotations import yolo_boxes


def printed(classes: list[int], numbers: list[list[float]]) -> list[bytes]:
    return [b"%d %.8f %.8f %.8f %.8f\n" % (label, *box) for label, box in zip(classes, numbers, strict=True)]


def written(classes: list[int], numbers: list[list[float]]) -> list[bytes]:
    found: Any = np.array(numbers, float).reshape(-1, 4)
    text, ends = yolo_boxes.rows(np.array(classes, np.int32), found)
    assert not ends or ends[-1] == len(text)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


fraction = st.floats(0, 1) | st.integers(0, 200 * 4096).map(lambda part: part / 200 / 4096)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1200), fraction, fraction, fraction, fraction), max_size=8))
@example([(9, 0.0, 1.0, 0.999999995, 0.5), (10, 5e-9, 1.5e-8, 2.5e-8, 1e-300)])
@example([(0, 0.123456785, 9.899999999, 9.9, 3.0)])
def test_rows_are_those_of_printf_also_where_a_digit_is_between_two(boxes: list[Any]) -> None:
    classes, numbers = [box[0] for box in boxes], [list(box[1:]) for box in boxes]
    assert written(classes, numbers) == printed(classes, numbers)


def test_numbers_that_are_no_fractions_are_written_all_the_same() -> None:
    classes, numbers = [3, 12], [[0.5, -0.25, 1e9, 0.1], [float("inf"), float("nan"), 9.95, 0.0]]
    assert written(classes, numbers) == printed(classes, numbers)


def test_halves_of_the_last_digit_are_rounded_as_the_number_of_the_float_lies() -> None:
    drawn = random.Random(5)
    numbers = [[(drawn.randrange(10**8) + 0.5) / 10**8 for _ in range(4)] for _ in range(5_000)]
    assert written([1] * len(numbers), numbers) == printed([1] * len(numbers), numbers)
