"""What families have in common that alter training images as a dataset declares it, and what they show of that.

Called by the families, and by augmentation_sheet.py for people who want to see it before they train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.geometry import Pixels

BLUR = (0.5, 2.0)
"""Pixels: standard deviations between which an image is blurred that is."""
_UNITS = {"rotate": "degrees"}


@dataclass(frozen=True)
class Altered:
    """An image as training gets it. ``boxes`` [n, 4] x1, y1, x2, y2 in its pixels, of ``class_ids`` [n]."""

    pixels: Pixels
    boxes: Any
    class_ids: Any


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


def worded(name: str, value: float) -> str:
    """A value of an augmentation, with its unit."""
    return f"{value:g} {_UNITS.get(name, '%')}"
