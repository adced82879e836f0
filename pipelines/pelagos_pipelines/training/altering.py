"""Code shared by families that augment training images as a dataset declares, and the interface to show examples of it.

Called by the families, and by augmentation_sheet.py for people who want to see the augmentation before they train.
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
"""Smallest and largest standard deviation, in pixels, of the blur of a blurred image."""
_UNITS = {"rotate": "degrees"}


@dataclass(frozen=True)
class Altered:
    """An image as training sees it. ``boxes`` [n, 4] are x1, y1, x2, y2 in its pixels, with ``class_ids`` [n].

    ``outlines``, for tasks that need more than boxes: for each object, the points ``[k, 2]`` around the pixels used in training.
    """

    pixels: Pixels
    boxes: Any
    class_ids: Any
    outlines: Sequence[Any] = ()


@dataclass(frozen=True)
class Examples:
    """A request for examples: the first ``shown`` of ``samples``, ``rounds`` times each, at ``image_size`` pixels, by ``seed``.

    The other samples may become parts of mosaics. ``folder`` is an empty scratch folder for this request alone.
    """

    samples: Sequence[Sample]
    labels: Sequence[str]
    shown: int
    rounds: int
    image_size: int
    seed: int
    folder: Path


class Augmenting(Protocol):
    """The additional interface of a family whose description says ``augments``."""

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """All augmentation of a training, declared or the family's default, in words by the name in spec.augmentation."""
        ...

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """For each shown image, ``rounds`` altered versions of it, made by the code that training runs."""
        ...


def contrasted(pixels: Pixels, factor: float) -> Pixels:
    """The image with its levels ``factor`` times as far from the mean grey level."""
    if factor == 1:
        return pixels
    middle = float(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).mean())
    levels = np.clip(np.arange(256) * factor + middle * (1 - factor), 0, 255)
    return np.asarray(cv2.LUT(pixels, levels.round().astype(np.uint8)), np.uint8)


def recoloured(pixels: Pixels, *, hue: float, saturation: float, brightness: float) -> Pixels:
    """The image in other colours; ``hue`` is a shift as a fraction of the colour circle, the others are factors."""
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
    """The image blurred by a Gaussian whose width lies between those of BLUR, at the fraction ``drawn`` in [0, 1]."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR[0] + (BLUR[1] - BLUR[0]) * drawn), np.uint8)


def worded(name: str, value: float) -> str:
    """The value of an augmentation with its unit."""
    return f"{value:g} {_UNITS.get(name, '%')}"
