"""Mean and standard deviation of the training images, by which a version says that its models' inputs are normalised.

Called by the step prepare with what children found of each image (measuring.channels). Every image counts alike, whatever its
size. The sums are of whole numbers, and what is divided is added up without rounding, so that every machine finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pelagos_contract.preprocessing import Preprocessing, Statistics

Channels = tuple[tuple[int, int], ...]
"""Of an image: by channel, blue first, the sums of its levels and of their squares."""
_DIGITS = 6


@dataclass(frozen=True)
class Wanted:
    """That channels are to be summed up, after the correction ``color``."""

    color: str | None

    @classmethod
    def by(cls, declared: Preprocessing | None) -> Wanted | None:
        """What a request wants."""
        return None if declared is None or declared.normalization is None else cls(declared.color)

    def written(self) -> str:
        """For the version of what is remembered: sums after another correction are other ones."""
        return f" channels {self.color}"


def believed(document: Mapping[str, object], pixels: int) -> Channels | None:
    """What a child found of an image of so many pixels; None when it cannot be true: it may have been taken over by the image."""
    sums, squares = document.get("sums"), document.get("squares")
    if not (isinstance(sums, list) and isinstance(squares, list) and len(sums) == len(squares) == 3):
        return None
    for total, square in zip(sums, squares, strict=True):
        if type(total) is not int or type(square) is not int or not 0 <= total <= 255 * pixels:
            return None
        if not 0 <= square <= 255 * total or pixels * square < total * total:
            return None
    return tuple(zip(sums, squares, strict=True))


def recalled(values: Iterable[Iterable[int]] | None) -> Channels | None:
    """As they were written. Raises ValueError or TypeError for what is nothing of the kind."""
    if values is None:
        return None
    found = tuple((int(total), int(square)) for total, square in values)
    if len(found) != 3:
        raise ValueError("three channels")
    return found


def of(images: Iterable[tuple[Channels, int]]) -> Statistics:
    """Of images with so many pixels each, red first, in [0, 1]."""
    listed = list(images)
    means, deviations = [], []
    for channel in (2, 1, 0):
        first, second = (
            math.fsum(found[channel][power] / (pixels * 255 ** (power + 1)) for found, pixels in listed) / len(listed)
            for power in (0, 1)
        )
        means.append(round(first, _DIGITS))
        deviations.append(round(math.sqrt(max(second - first * first, 0.0)), _DIGITS))
    return Statistics(mean=means, deviation=deviations)
