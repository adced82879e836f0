"""Boxes of images and the output of a detector with errors, as arrays. Imported by the programs that score them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = 20
SIDE = 2000


@dataclass(frozen=True)
class Boxes:
    """``corners`` [n, 4]: x1, y1, x2, y2. The image and class of each; for detections also the scores."""

    images: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    corners: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


def make(images: int, each: int) -> tuple[Boxes, Boxes]:
    """True boxes, ``each`` per image, and detections: moved, some missed, some of another class, half as many invented.

    Scores have two digits, so that many tie.
    """
    generator = np.random.default_rng(0)
    numbers: npt.NDArray[np.int64] = np.repeat(np.arange(images), each)
    corners = _boxes(generator, len(numbers))
    labels = generator.integers(0, CLASSES, len(numbers))
    kept, other = generator.random(len(numbers)) < 0.9, generator.random(len(numbers)) < 0.1
    guessed = np.where(other, generator.integers(0, CLASSES, len(numbers)), labels)[kept]
    moved = np.sort((corners[kept] + generator.normal(0, 8, (kept.sum(), 4))).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    invented = len(numbers) // 2
    found = np.concatenate((numbers[kept], generator.integers(0, images, invented)))
    order = np.argsort(found, kind="stable")
    scores = np.concatenate((generator.beta(5, 2, kept.sum()), generator.beta(2, 5, invented))).round(2)
    places = np.concatenate((moved, _boxes(generator, invented)))
    classes = np.concatenate((guessed, generator.integers(0, CLASSES, invented)))
    return Boxes(numbers, labels, corners, np.ones(len(numbers))), Boxes(
        found[order], classes[order], places[order], scores[order]
    )


def _boxes(generator: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    corners = generator.uniform(0, SIDE, (count, 2))
    return np.concatenate((corners, corners + generator.uniform(20, 160, (count, 2))), axis=1)


def sides(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert corners to left, top, width and height."""
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
