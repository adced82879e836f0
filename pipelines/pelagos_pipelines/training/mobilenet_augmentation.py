"""How training images of a classifier are altered where a dataset declares it. Called by mobilenet.py.

Without a declaration they are altered as always, in mobilenet.py. One resampling turns, scales, moves and mirrors, for all images
of a batch at once; colours and blur are those of torchvision's transforms, version 2, before values are normalised. All that is
drawn by chance comes from torch's generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pelagos_contract.augmentation import Augmentation
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
"""What the family does by itself, in percent and degrees."""
_BLURRED = 2 * math.ceil(3 * altering.BLUR[1]) + 1
"""Pixels that a blurred one is made of, in a row."""


def amounts(declared: Augmentation | None) -> dict[str, float]:
    """What is done: as declared, else as usual. Flips are percent of the images."""
    listed = {} if declared is None else declared.listed()
    told = {
        name: (50.0 if value else 0.0) if isinstance(value, bool) else float(value) for name, value in listed.items()
    }
    return {name: told.get(name, usual) for name, usual in USUAL.items()}


def altered(canvases: Any, declared: Augmentation) -> Any:
    """Of canvases ``[n, size, size, 3]`` of bytes, blue first, others of the same kind, each altered by chance."""
    found = amounts(declared)
    images = torch.from_numpy(np.ascontiguousarray(canvases[..., ::-1])).permute(0, 3, 1, 2)
    moved = _moved(images.float(), found).round().clamp(0, 255).to(torch.uint8)
    changed = torch.stack([_recoloured(image, found) for image in moved])
    return np.ascontiguousarray(changed.permute(0, 2, 3, 1).numpy()[..., ::-1])


def _moved(images: Tensor, found: Mapping[str, float]) -> Tensor:
    """Beyond its edges an image goes on as it ends."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(found["rotate"])
    # Where a pixel comes from: a larger image is taken from a smaller part.
    part = 1 / (1 + (torch.rand(count) * 2 - 1) * found["scale"] / 100)
    across, down = (
        1 - 2 * (torch.rand(count) < found[f"flip{side}"] / 100).float() for side in ("Horizontal", "Vertical")
    )
    # Coordinates go from -1 to 1.
    away = (torch.rand(count, 2, 1) * 2 - 1) * found["translate"] / 100 * 2
    cosine, sine = angle.cos() * part, angle.sin() * part
    turned = torch.stack((cosine * across, -sine * across, sine * down, cosine * down), dim=1).view(count, 2, 2)
    grid = functional.affine_grid(torch.cat((turned, away), dim=2), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recoloured(image: Tensor, found: Mapping[str, float]) -> Tensor:
    from torchvision.transforms import v2

    colors = {name: found[f"color.{name}"] / 100 for name in ("brightness", "contrast", "saturation", "hue")}
    if any(colors.values()):
        image = v2.ColorJitter(**colors)(image)
    if float(torch.rand(1)) < found["blur"] / 100:
        image = v2.GaussianBlur(_BLURRED, altering.BLUR)(image)
    return image
