"""Augments training images on square canvases as a dataset declares.

Called by classifiers.py, which has its own default for datasets that declare nothing, and by families that learn from maps
of pixels, which are moved with their images.

OpenCV does the work, on bytes and before values are normalised: one resampling rotates, scales, translates and mirrors.
Torchvision's transforms, version 2, took 7 ms of processor time for an image of 224 pixels; this takes 1 ms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from pelagos_contract.augmentation import Augmentation
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.training import altering

USUAL: Mapping[str, float] = {
    "flipHorizontal": 50,
    "flipVertical": 50,
    "rotate": 15,
    "scale": 15,
    "translate": 0,
    "color.hue": 0,
    "color.saturation": 0,
    "color.brightness": 0,
    "color.contrast": 20,
    "blur": 0,
}
"""The families' defaults, in percent and degrees."""


def amounts(declared: Augmentation | None) -> dict[str, float]:
    """The amount of each augmentation: as declared, else the default. Flips are in percent of the images."""
    listed = {} if declared is None else declared.listed()
    told = {
        name: (50.0 if value else 0.0) if isinstance(value, bool) else float(value) for name, value in listed.items()
    }
    return {name: told.get(name, usual) for name, usual in USUAL.items()}


def altered(canvases: Any, declared: Augmentation, generator: np.random.Generator) -> Any:
    """Randomly altered copies of square canvases ``[n, size, size, 3]``, bytes with blue first."""
    found = amounts(declared)
    drawn = _drawn(len(canvases), generator)
    return np.stack([_altered(canvas, None, found, one)[0] for canvas, one in zip(canvases, drawn, strict=True)])


def altered_with_maps(
    canvases: Any, maps: Any, declared: Augmentation | None, generator: np.random.Generator
) -> tuple[Any, Any]:
    """Like `altered`, with maps ``[n, size, size]`` of integers, which are moved with their canvases."""
    found = amounts(declared)
    drawn = _drawn(len(canvases), generator)
    pairs = [_altered(canvas, numbers, found, one) for canvas, numbers, one in zip(canvases, maps, drawn, strict=True)]
    return np.stack([pixels for pixels, _ in pairs]), np.stack([numbers for _, numbers in pairs])


def _drawn(count: int, generator: np.random.Generator) -> Any:
    # The same count of numbers for each image, whatever is declared, so that changing one value leaves the other draws alone.
    return generator.random((count, len(USUAL) + 2))


def _altered(canvas: Pixels, numbers: Any, found: Mapping[str, float], drawn: Any) -> tuple[Pixels, Any]:
    """The altered canvas and its map, which may be None."""
    across, down = (drawn[place] < found[f"flip{side}"] / 100 for place, side in ((0, "Horizontal"), (1, "Vertical")))
    # All in [-1, 1).
    angle, scale, right, below, hue, saturation, brightness, contrast = 2 * drawn[2:10] - 1
    where = _placed(
        canvas.shape[0],
        flips=(-1.0 if across else 1.0, -1.0 if down else 1.0),
        degrees=angle * found["rotate"],
        scale=1 + scale * found["scale"] / 100,
        shift=(right * found["translate"] / 100, below * found["translate"] / 100),
    )
    moved = _moved(canvas, where, cv2.INTER_LINEAR)
    colours = altering.recoloured(
        moved,
        hue=hue * found["color.hue"] / 100,
        saturation=1 + saturation * found["color.saturation"] / 100,
        brightness=1 + brightness * found["color.brightness"] / 100,
    )
    sharp = altering.contrasted(colours, 1 + contrast * found["color.contrast"] / 100)
    blurred = altering.blurred(sharp, drawn[11]) if drawn[10] < found["blur"] / 100 else sharp
    return blurred, None if numbers is None else _moved(numbers, where, cv2.INTER_NEAREST)


def _placed(side: int, *, flips: tuple[float, float], degrees: float, scale: float, shift: tuple[float, float]) -> Any:
    """The affine matrix [2, 3] of a canvas's pixels, around its middle; ``shift`` is in fractions of the side."""
    cosine, sine = (scale * part(math.radians(degrees)) for part in (math.cos, math.sin))
    matrix = np.array([[cosine * flips[0], -sine * flips[1]], [sine * flips[0], cosine * flips[1]]])
    middle = np.full(2, (side - 1) / 2)
    offset = middle - matrix @ middle + np.array(shift) * side
    return np.column_stack((matrix, offset))


def _moved(canvas: Any, where: Any, interpolation: int) -> Any:
    """The canvas moved by the matrix; beyond its edges, the outermost pixels are repeated."""
    side = canvas.shape[0]
    if np.array_equal(where, np.eye(2, 3)):
        return canvas
    return cv2.warpAffine(canvas, where, (side, side), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
