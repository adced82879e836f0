"""Example pictures for tasks that label pixels: predictions in colours, ground truth as white outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pelagos_pipelines.evaluation import figures
from pelagos_pipelines.serving.geometry import Pixels

LONGEST = 480
"""Longest side in pixels of an image in a picture."""
OPACITY = 0.55
NAMED = 9
"""Most classes in the legend."""


def legend(labels: Sequence[str]) -> list[Any]:
    """The legend entries of classes, for the pictures of `overlaid`."""
    entries: list[Any] = [
        Patch(color=colour(index), label=figures.shortened(label)) for index, label in enumerate(labels[:NAMED])
    ]
    if len(labels) > NAMED:
        entries.append(Patch(color="none", label=f"and {len(labels) - NAMED} more classes"))
    entries.append(Line2D([], [], color="0.75", linewidth=2, label="outline of the truth"))
    return entries


def overlaid(
    image: Pixels, found: npt.NDArray[np.int32], classes: npt.NDArray[Any], true: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """The image in RGB, with the colours of classes and with outlines.

    Args:
        image: in BGR.
        found: the number of each pixel's predicted segment or class; changes are drawn as dark lines.
        classes: 1 + the class index of each pixel; 0 has no colour.
        true: the same as ``found`` for the ground truth; changes are drawn as white lines.
    """
    height, width = image.shape[:2]
    scale = min(LONGEST / max(height, width), 1.0) if max(height, width) > LONGEST else LONGEST / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    shown = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)[..., ::-1]
    found, classes, true = (
        cv2.resize(np.asarray(one, np.float32), size, interpolation=cv2.INTER_NEAREST).astype(int)
        for one in (found, classes, true)
    )
    palette = np.array([(0, 0, 0), *(to_rgb(colour(index)) for index in range(int(classes.max(initial=0))))])
    picture = shown / 255
    coloured = classes > 0
    picture[coloured] = (1 - OPACITY) * picture[coloured] + OPACITY * palette[classes[coloured]]
    picture[_edges(found)] *= 0.4
    picture[_edges(true)] = 1.0
    return picture


def colour(index: int) -> str:
    """The colour of a class; colours repeat with many classes."""
    palette = [each for each in figures.PALETTE if each != "#000000"]
    return palette[index % len(palette)]


def _edges(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.zeros(numbers.shape, bool)
    found[1:] |= numbers[1:] != numbers[:-1]
    found[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    return found
