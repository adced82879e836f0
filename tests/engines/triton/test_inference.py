"""Servers' answers are read as JSON, and invalid ones get a clear message."""

from __future__ import annotations

import pytest

from pelagos.engines.triton import inference
from pelagos.engines.triton.inference import InferenceError


def test_an_answer_is_what_it_says() -> None:
    assert inference.answered(b'{"detections": [{"box": [1, 2.5, 3e0, 4]}]}') == {
        "detections": [{"box": [1, 2.5, 3.0, 4]}]
    }


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_box_without_numbers_is_no_answer(number: str) -> None:
    """It would be drawn, or merged with those of other tiles, as if it had a place."""
    with pytest.raises(InferenceError, match=f"the prediction has {number} where a number belongs"):
        inference.answered(f'{{"detections": [{{"box": [1, 2, {number}, 4]}}]}}'.encode())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"error": "too large"}', "the image was refused: too large"),
    ],
)
def test_what_is_no_answer_is_said(content: bytes, words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        inference.answered(content)
