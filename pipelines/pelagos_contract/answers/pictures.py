"""Images with what a model found in them, as its task draws it."""

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
"""By task: a new picture with what was found in an image that was enlarged by a scale."""


def render(image: Image.Image, answer: Answer) -> Image.Image:
    """A new picture with what was found in an image. Raises PictureError for an answer that is none for it."""
    scale = max(1.0, SMALLEST / max(image.size))
    size = round(image.width * scale), round(image.height * scale)
    picture = image if scale == 1.0 else image.resize(size, Image.Resampling.BICUBIC)
    return DRAWN[answer["task"]](picture, answer, scale)
