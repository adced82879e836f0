"""Images are placed on the canvas exactly as ultralytics places them, so that serving sees what training saw."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from ultralytics.data.augment import LetterBox

from pelagos_pipelines.serving import geometry


@pytest.mark.parametrize("width", [1, 31, 64, 97, 191, 320, 1001])
@pytest.mark.parametrize("height", [1, 33, 64, 130, 241, 480])
def test_the_canvas_is_that_of_ultralytics(width: int, height: int) -> None:
    image = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), np.uint8)
    want = LetterBox(192, auto=True, stride=32)(image=image)
    got = geometry.place(image, geometry.fit(width, height, 192, 32))
    assert got.shape == want.shape
    assert np.array_equal(got, want)


def test_a_classifier_sees_a_square_with_the_whole_image() -> None:
    image: geometry.Pixels = np.full((50, 200, 3), 255, np.uint8)
    canvas = geometry.square(image, 64)
    assert canvas.shape == (64, 64, 3)
    assert (canvas[24:40] == 255).all()
    assert (canvas[:24] == geometry.PADDING).all()


def test_a_thin_organism_survives_shrinking() -> None:
    image: geometry.Pixels = np.full((1000, 1000, 3), 200, np.uint8)
    cv2.line(image, (0, 500), (999, 500), (0, 0, 0), 3)
    assert geometry.square(image, 64)[30:34].min() < 180
