"""Places images on the canvas that a model sees.

Called by the tasks' strategies: in the child that decodes an image of a request (images.py), so that no large image leaves it,
and for images that predictor.py holds; and by the training of classifiers. It may import only numpy and OpenCV, and runs with
numpy 1.26 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""An image in OpenCV's layout: ``[height, width, 3]``, blue first."""

PADDING = 114
"""Grey level of letterbox borders, the same as in YOLO's training."""


@dataclass(frozen=True)
class Fitted:
    """An image on its canvas. ``width`` and ``height`` are the original's; ``reduced`` are those before it was fitted."""

    canvas: Pixels
    width: int
    height: int
    reduced: tuple[int, int] | None = None

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of the image that was put on the canvas, before it was resized for that."""
        return self.reduced or (self.width, self.height)


@dataclass(frozen=True)
class Fit:
    """The place of an image on its canvas: it is resized to ``width`` x ``height``, then moved by ``left`` and ``top``."""

    width: int
    height: int
    left: int
    top: int
    canvas_width: int
    canvas_height: int


def fit(width: int, height: int, size: int, stride: int) -> Fit:
    """The place of an image on the smallest canvas whose sides are multiples of ``stride`` and at most ``size``.

    The arithmetic is that of ultralytics' letterbox (minimum rectangle, centred); ``stride == size`` gives a square.
    """
    ratio = min(size / height, size / width)
    inner_width, inner_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    spare_x = (size - inner_width) % stride / 2
    spare_y = (size - inner_height) % stride / 2
    left, right = round(spare_x - 0.1), round(spare_x + 0.1)
    top, bottom = round(spare_y - 0.1), round(spare_y + 0.1)
    return Fit(inner_width, inner_height, left, top, inner_width + left + right, inner_height + top + bottom)


def place(image: Pixels, place_at: Fit, interpolation: int = cv2.INTER_LINEAR) -> Pixels:
    """The canvas ``[canvas_height, canvas_width, 3]`` with the image on it, and grey around it."""
    if image.shape[:2] != (place_at.height, place_at.width):
        image = cast(Pixels, cv2.resize(image, (place_at.width, place_at.height), interpolation=interpolation))
    if (place_at.canvas_height, place_at.canvas_width) == image.shape[:2]:
        return image
    canvas: Pixels = np.full((place_at.canvas_height, place_at.canvas_width, 3), PADDING, np.uint8)
    canvas[
        place_at.top : place_at.top + place_at.height,
        place_at.left : place_at.left + place_at.width,
    ] = image
    return canvas


def square(image: Pixels, size: int) -> Pixels:
    """The image on a square canvas, as classifiers see it."""
    return letterboxed(image, size, size)


def letterboxed(image: Pixels, size: int, stride: int) -> Pixels:
    """The image on the canvas that `fit` finds. Shrinking averages pixels, so that thin organisms do not vanish."""
    at = fit(image.shape[1], image.shape[0], size, stride)
    shrinks = at.width < image.shape[1]
    return place(image, at, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
