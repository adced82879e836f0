"""Shapes as YOLO rows: the points of an outline, or the corners of a turned box, as fractions of the image.

A row has one ring. Further parts and holes of an object are joined to it by lines of zero width, which changes no pixel under the
even-odd rule. Overlapping parts are therefore written as the outlines of their pixels.
Source: docs.ultralytics.com, datasets/segment and datasets/obb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.shapes import Kind, Shape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BOX = 4
_FEW, _FEW_POINTS = 32, 4096
"""Most rings, and most points in them, that are all compared with each other."""


def of_row(row: Sequence[float], names: Sequence[str], size: tuple[int, int]) -> Shape:
    """The shape of a row: ``class`` and four numbers of a box, or x and y of at least three points."""
    width, height = size
    label, numbers = names[int(row[0])], row[1:]
    if len(numbers) == _BOX:
        x, y, wide, high = numbers
        return shapes.rectangle(label, (x - wide / 2) * width, (y - high / 2) * height, wide * width, high * height)
    points = [one * (height if place % 2 else width) for place, one in enumerate(numbers)]
    return shapes.polygon(label, points)


def row(shape: Shape, size: tuple[int, int]) -> str:
    """The numbers of a shape, as text."""
    width, height = size
    if shape.kind is Kind.RECTANGLE:
        points = shapes.corners_of(shape)
    else:
        whole = masks.even_and_odd(shape, width, height)
        rings = masks.rings_of(whole) if whole.kind is Kind.MASK else [ring for ring, _ in whole.outlines]
        points = joined(rings)
    return " ".join(f"{one / (height if place % 2 else width):.8f}" for place, one in enumerate(points))


def joined(rings: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """One ring around all rings: from one of its points to each further ring, around that, and back.

    A line that is traversed in both directions has no width, so it changes no pixel under the even-odd rule, whatever it crosses.
    With few rings the lines are as short as possible; in a mask of thousands of specks each ring is joined to the previous one.
    """
    import numpy as np

    parts: list[Any] = [np.reshape(np.asarray(ring, float), (-1, 2)) for ring in rings]
    if len(parts) > _FEW or sum(map(len, parts)) > _FEW_POINTS:
        there = [part[:1] for part in parts]
        closed = [np.concatenate((part, start)) for part, start in zip(parts, there, strict=True)]
        return tuple(np.concatenate((*closed, *there[-2::-1])).ravel().tolist())
    whole, left = parts[0], parts[1:]
    while left:
        # Nearest first, so that no line passes through a ring that is joined later.
        near = [_nearest(whole, ring) for ring in left]
        number = min(range(len(left)), key=lambda one: near[one][0])
        _, here, start = near[number]
        ring = left.pop(number)
        around = np.concatenate((ring[start:], ring[: start + 1]))
        whole = np.concatenate((whole[: here + 1], around, whole[here:]))
    return tuple(whole.ravel().tolist())


def _nearest(some: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> tuple[float, int, int]:
    import numpy as np

    far = ((some[:, None] - others[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(far.argmin()), far.shape)
    return float(far[here, there]), int(here), int(there)
