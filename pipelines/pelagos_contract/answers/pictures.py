"""Draws a model's predictions on images, in the way of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image

from pelagos_contract.answers import (
    classification,
    detection,
    instance_segmentation,
    oriented_detection,
    panoptic_segmentation,
    semantic_segmentation,
)
from pelagos_contract.answers.drawing import SMALLEST, Answer
from pelagos_contract.tasks import Task

DRAWN: Mapping[str, Callable[[Image.Image, Answer, float], Image.Image]] = {
    Task.DETECTION: detection.drawn,
    Task.CLASSIFICATION: classification.drawn,
    Task.INSTANCE_SEGMENTATION: instance_segmentation.drawn,
    Task.ORIENTED_DETECTION: oriented_detection.drawn,
    Task.SEMANTIC_SEGMENTATION: semantic_segmentation.drawn,
    Task.PANOPTIC_SEGMENTATION: panoptic_segmentation.drawn,
}
"""By task: a function of an enlarged image, the prediction and the scale that returns a new picture."""


def render(image: Image.Image, answer: Answer) -> Image.Image:
    """A new picture with the predictions drawn on it. Raises PictureError for an answer that does not fit the image."""
    scale = max(1.0, SMALLEST / max(image.size))
    size = round(image.width * scale), round(image.height * scale)
    picture = image if scale == 1.0 else image.resize(size, Image.Resampling.BICUBIC)
    return DRAWN[answer["task"]](picture, answer, scale)
