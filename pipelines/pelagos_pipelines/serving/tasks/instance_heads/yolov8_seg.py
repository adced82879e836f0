"""The head of YOLOv8-seg: candidates ``[4 + classes + 32, anchors]``, and prototypes ``[32, height / 4, width / 4]``.

Height and width are those of the canvas. The last numbers of a candidate are its coefficients: its mask is where the sum of the
prototypes, each times its coefficient, is above 0. Source: Bolya, Zhou, Xiao and Lee, YOLACT: real-time instance segmentation,
ICCV 2019, doi:10.1109/ICCV.2019.00925. Masks are in pixels of the original, as ultralytics computes them with ``retina_masks``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pelagos_contract.run_lengths import Part
from pelagos_pipelines.serving import geometry, sketches
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Floats, Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks import detection
from pelagos_pipelines.serving.tasks.instance_segmentation import (
    Candidates,
    InstanceHead,
    Instances,
    columns_and_rows,
    instances,
)

REDUCTION = 4
"""Pixels of the canvas per pixel of a prototype, across and down."""
ANCHORS, PLACES = 16, 64
"""The candidates in a sketch, and the places at which their masks are sampled."""
AT_ONCE = 4096
"""The side, in pixels, of the part of an image for which a mask is computed at a time."""
HIDDEN = 16.0
"""How many times larger the summands of coefficients and prototypes may be than the sums: early in training they cancel."""


class YoloV8Seg(InstanceHead):
    """Implements `InstanceHead`, which documents its methods, for YOLOv8-seg."""

    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Instances:
        """Decode boxes as in detection, and the mask in each."""
        candidates, prototypes = _boxes(raw), raw[1]
        at = geometry.fit(*image.shown, settings.image_size, settings.stride)
        found, anchors = detection.with_anchors(candidates, at, (image.width, image.height), thresholds)
        coefficients = raw[0][len(candidates) :, anchors].T
        size = (image.height, image.width)
        wide, high = image.shown
        sides = [_interpolation(prototypes.shape[1:], (high, wide), size, axis=axis) for axis in (0, 1)]

        def part(place: int) -> Part:
            columns, rows = columns_and_rows(found.boxes[place], size)
            inside: Any = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
            for top in range(0, inside.shape[0], AT_ONCE):
                for left in range(0, inside.shape[1], AT_ONCE):
                    some = inside[top : top + AT_ONCE, left : left + AT_ONCE]
                    begin = rows.start + top, columns.start + left
                    weights = (
                        side.weights(slice(first, first + count))
                        for side, first, count in zip(sides, begin, some.shape, strict=True)
                    )
                    some[:] = _inside(coefficients[place], prototypes, *weights)
            return Part(columns.start, rows.start, inside)

        kept = Candidates(found.scores, found.class_ids, found.boxes, found.cut)
        return instances(image, kept, part)

    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """The four rows of boxes, and the rows of classes."""
        candidates = _boxes(raw)
        return candidates[:4], candidates[4:]

    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a class, a number of the boxes, a coefficient, or a prototype."""
        if kind == "scores":
            return f"class {labels[index]!r}"
        return f"{'xywh'[index]} of the boxes" if kind == "boxes" else f"{kind} {index + 1}"

    def rows(self, raw: Raw) -> dict[str, Any]:
        """The rows of detection, and one for each ``coefficient`` and ``prototype``."""
        candidates, prototypes = _boxes(raw), raw[1]
        return {
            **detection.STRATEGY.rows(candidates),
            "coefficient": raw[0][len(candidates) :].astype(np.float64),
            "prototype": prototypes.reshape(len(prototypes), -1).astype(np.float64),
        }

    def sketch(self, raw: Raw) -> dict[str, Any]:
        """The sketch of detection, and one row ``masks``: the values of some masks at some places, before any threshold."""
        coefficients, places = _sampled(raw)
        return {**detection.STRATEGY.sketch(_boxes(raw)), "masks": (coefficients.T @ places).reshape(1, -1)}

    def rounding(self, raw: Raw) -> dict[str, Any]:
        """The uncertainty of the summands of each number."""
        candidates, prototypes = _boxes(raw), raw[1]
        coefficients, places = _sampled(raw)
        return {
            **detection.STRATEGY.rounding(candidates),
            "coefficient": HIDDEN * sketches.ULPS * np.abs(raw[0][len(candidates) :]).max(axis=1),
            "prototype": HIDDEN * sketches.ULPS * np.abs(prototypes).max(axis=(1, 2)),
            "masks": HIDDEN * sketches.ULPS * (np.abs(coefficients).T @ np.abs(places)).max(keepdims=True).ravel(),
        }


def _boxes(raw: Raw) -> Floats:
    """The candidates without their coefficients, which is the output of a detector."""
    candidates, prototypes = raw
    boxes: Floats = candidates[: len(candidates) - len(prototypes)]
    return boxes


def _sampled(raw: Raw) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Coefficients of some candidates, and values of the prototypes at some places, ``[32, n]`` each, evenly spread."""
    candidates, prototypes = raw
    coefficients = candidates[len(candidates) - len(prototypes) :].astype(np.float64)
    flat = prototypes.reshape(len(prototypes), -1).astype(np.float64)
    return coefficients[:, _spread(coefficients.shape[1], ANCHORS)], flat[:, _spread(flat.shape[1], PLACES)]


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def _inside(coefficients: Floats, prototypes: Floats, down: _Weights, across: _Weights) -> npt.NDArray[np.bool_]:
    """The pixels of a mask in a part of an image; rows and columns are weighted means of those of the prototypes."""
    window = prototypes[:, down.reached, across.reached]
    low = (coefficients @ window.reshape(len(window), -1)).reshape(window.shape[1:])
    found: npt.NDArray[np.bool_] = down.values @ low @ across.values.T > 0
    return found


class _Weights(NamedTuple):
    """The weights ``[rows, reached]`` of the ``reached`` rows (or columns) of the prototypes in some rows of the original."""

    reached: slice
    values: Any


@dataclass(frozen=True)
class _Interpolation:
    """How each row of the original is interpolated between the rows ``before`` and ``after`` of ``finer`` ``[rows, grid]``.

    ``share`` is the weight of ``after``. An image may have a million rows, whose weights over the whole grid would take a
    gigabyte.
    """

    finer: npt.NDArray[np.float64]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]

    def weights(self, rows: slice) -> _Weights:
        """The weights of some rows, at least one."""
        before, after, share = self.before[rows], self.after[rows], self.share[rows, None]
        cells = np.flatnonzero(self.finer[before[0] : after[-1] + 1].any(axis=0))
        reached = slice(int(cells[0]), int(cells[-1]) + 1)
        near = self.finer[:, reached]
        values: Any = (1 - share) * near[before] + share * near[after]
        return _Weights(reached, values.astype(np.float32))


def _interpolation(
    grid: tuple[int, int], shown: tuple[int, int], size: tuple[int, int], *, axis: int
) -> _Interpolation:
    """How each row (``axis`` 0) or column (1) of the original is interpolated from those of the prototypes.

    As ultralytics resizes masks: bilinearly to a resolution at which the letterbox's borders end between pixels, then without the
    borders to the original. ``grid`` is the height and width of the prototypes, ``shown`` that of the image that was put on the
    canvas, ``size`` that of the original.
    """
    canvas = [REDUCTION * side for side in grid]
    gain = min(canvas[0] / shown[0], canvas[1] / shown[1])
    spare = [whole - max(round(side * gain), 1) for whole, side in zip(canvas, shown, strict=True)]
    borders = spare[0] | spare[1]
    finer = REDUCTION // math.gcd(REDUCTION, borders | borders // 2)
    sides = [finer * side for side in grid]
    gain = min(sides[0] / shown[0], sides[1] / shown[1])
    content = max(round(shown[axis] * gain), 1)
    start = round((sides[axis] - content) / 2 - 0.1)
    finely, (before, after, share) = _bilinear(sides[axis], grid[axis]), _bilinear(size[axis], content)
    first: Any = np.zeros((sides[axis], grid[axis]))
    np.add.at(first, (np.arange(sides[axis]), finely[0]), 1 - finely[2])
    np.add.at(first, (np.arange(sides[axis]), finely[1]), finely[2])
    return _Interpolation(first, start + before, start + after, share)


def _bilinear(size: int, source: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each of ``size`` pixels, the two of ``source`` with the nearest centres, and the weight of the second."""
    places = np.clip((np.arange(size) + 0.5) * (source / size) - 0.5, 0, source - 1)
    before = places.astype(int)
    return before, np.minimum(before + 1, source - 1), places - before


STRATEGY = YoloV8Seg()
