"""Computes mean and standard deviation of the training images, for versions that declare that inputs are normalised by them.

Called by the step prepare with the children's sums for each image (measuring.channels). Every image has the same weight, whatever
its size. Sums are of whole numbers, and quotients are added without rounding, so that every machine finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pelagos_contract.preprocessing import Preprocessing, Statistics

Channels = tuple[tuple[int, int], ...]
"""An image's sums of levels and of their squares, by channel, blue first."""
_DIGITS = 6


@dataclass(frozen=True)
class Wanted:
    """A request to sum up channels, after the correction ``color``."""

    color: str | None

    @classmethod
    def by(cls, declared: Preprocessing | None) -> Wanted | None:
        """The request that follows from a recipe; None if it does not normalise."""
        return None if declared is None or declared.normalization is None else cls(declared.color)

    def written(self) -> str:
        """A text for the version of kept findings, because another correction gives other sums."""
        return f" channels {self.color}"


def believed(document: Mapping[str, object], pixels: int) -> Channels | None:
    """A child's sums for an image of ``pixels``; None if they are implausible: the image may have taken over the child."""
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
    """The sums from their stored form. Raises ValueError or TypeError if they are invalid."""
    if values is None:
        return None
    found = tuple((int(total), int(square)) for total, square in values)
    if len(found) != 3:
        raise ValueError("three channels")
    return found


def of(images: Iterable[tuple[Channels, int]]) -> Statistics:
    """Mean and deviation of images, each with its number of pixels; red first, in [0, 1]."""
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
