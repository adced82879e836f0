"""What families have in common that alter training images as a dataset declares it, and what they show of that.

Called by the families, and by augmentation_sheet.py for people who want to see it before they train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.geometry import Pixels

BLUR = (0.5, 2.0)
"""Pixels: standard deviations between which an image is blurred that is."""
_UNITS = {"rotate": "degrees"}


@dataclass(frozen=True)
class Altered:
    """An image as training gets it. ``boxes`` [n, 4] x1, y1, x2, y2 in its pixels, of ``class_ids`` [n].

    ``outlines``, of tasks that need more than a box: for each of these points ``[k, 2]`` around what training takes for it.
    """

    pixels: Pixels
    boxes: Any
    class_ids: Any
    outlines: Sequence[Any] = ()


@dataclass(frozen=True)
class Examples:
    """What is to be altered ``rounds`` times each: the first ``shown`` of ``samples``, at ``image_size`` pixels, by ``seed``.

    The others are there for what is put together from several images. ``folder`` is empty, and for this alone.
    """

    samples: Sequence[Sample]
    labels: Sequence[str]
    shown: int
    rounds: int
    image_size: int
    seed: int
    folder: Path


class Augmenting(Protocol):
    """What a family offers whose description says ``augments``."""

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """What a training does, with what the family does by itself: by the name in spec.augmentation, in words."""
        ...

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """For each image that is shown, what training makes of it in so many epochs; by the code that training runs."""
        ...


def contrasted(pixels: Pixels, factor: float) -> Pixels:
    """The image with grey levels so many times as far from their mean."""
    if factor == 1:
        return pixels
    middle = float(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).mean())
    levels = np.clip(np.arange(256) * factor + middle * (1 - factor), 0, 255)
    return np.asarray(cv2.LUT(pixels, levels.round().astype(np.uint8)), np.uint8)


def recoloured(pixels: Pixels, *, hue: float, saturation: float, brightness: float) -> Pixels:
    """The image in other colours; ``hue`` is of the circle, the others are factors."""
    if not hue and saturation == 1 and brightness == 1:
        return pixels
    levels = np.arange(256)
    table = np.stack(
        [(levels + hue * 256) % 256, np.minimum(levels * saturation, 255), np.minimum(levels * brightness, 255)],
        axis=-1,
    )
    values = cv2.LUT(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV_FULL), table.astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(values, cv2.COLOR_HSV2BGR_FULL), np.uint8)


def blurred(pixels: Pixels, drawn: float) -> Pixels:
    """By a Gaussian whose width is between those of BLUR, by a number that is drawn from 0 to 1."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR[0] + (BLUR[1] - BLUR[0]) * drawn), np.uint8)


def worded(name: str, value: float) -> str:
    """A value of an augmentation, with its unit."""
    return f"{value:g} {_UNITS.get(name, '%')}"
