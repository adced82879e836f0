"""Sheets of example pictures of an evaluation: from best to worst, the worst, and the most confident mistakes.

How an image is drawn differs by task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from pelagos_pipelines.evaluation import figures

SHOWN = 12
COLUMNS = 4
LEGENDS = 3
"""Entries of a legend per line."""
TITLE, TILE, WORDS = 0.35, 2.7, 0.5
"""Height in inches of a sheet's title, of a row of images, and of the text above the images in it."""
TRUTH, FOUND, WRONG, IGNORED = "#FFFFFF", "#56B4E9", "#E69F00", "#B0B0B0"
SPREAD, WORST, CONFIDENT_WRONG = "examples.png", "worst.png", "confident-wrong.png"


@dataclass(frozen=True)
class Pictures:
    """A task's data for pictures of a split's images.

    ``quality`` [n] is from 0 to 1, where 1 is perfect; ``mistaken`` [n] is the confidence of the model's mistake, NaN without
    one; ``surest`` describes the latter. ``draw`` draws an image with text above it.
    """

    quality: Sequence[float]
    mistaken: Sequence[float]
    draw: Callable[[Any, int], None]
    measure: str
    surest: str = "What the model is surest of, and is wrong"
    legend: Sequence[Any] = ()


def spread(quality: Sequence[float], count: int = SHOWN) -> list[int]:
    """Indices of ``count`` images, evenly spread from the best to the worst quality."""
    order = np.argsort(-np.asarray(quality), kind="stable")
    return [int(order[place]) for place in np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]


def worst(quality: Sequence[float], count: int = SHOWN) -> list[int]:
    """Indices of the images with the lowest quality, worst first, without perfect ones."""
    values = np.asarray(quality, float)
    return [int(place) for place in np.argsort(values, kind="stable")[:count] if values[place] < 1]


def most_mistaken(mistaken: Sequence[float], count: int = SHOWN) -> list[int]:
    """Indices of the images with the most confident mistakes, most confident first, without images that have none."""
    values = np.asarray(mistaken, float)
    return [int(place) for place in np.argsort(-values, kind="stable")[:count] if np.isfinite(values[place])]


def sheets(pictures: Pictures, folder: Path) -> None:
    """Draw the three sheets; a sheet without images is not written."""
    chosen = {
        SPREAD: (f"Test images from best to worst ({pictures.measure})", spread(pictures.quality)),
        WORST: (f"The worst test images ({pictures.measure})", worst(pictures.quality)),
        CONFIDENT_WRONG: (pictures.surest, most_mistaken(pictures.mistaken)),
    }
    for name, (title, indices) in chosen.items():
        if not indices:
            (folder / name).unlink(missing_ok=True)
            continue
        with mpl.rc_context({**figures.STYLE, "axes.grid": False}):
            figure, tiles = grid(len(indices), math.ceil(len(pictures.legend) / LEGENDS))
            for axes, index in zip(tiles, indices, strict=True):
                pictures.draw(axes, index)
            figure.suptitle(title, fontweight="bold", fontsize=12)
            if pictures.legend:
                figure.legend(handles=pictures.legend, loc="lower center", ncols=LEGENDS, frameon=False, fontsize=8)
            figures.save(figure, folder / name)


def grid(count: int, lines_below: int = 0) -> tuple[Any, list[Any]]:
    """A figure with a title, axes for ``count`` images with up to two lines of text above each, and room for a legend.

    Positions are computed here, since matplotlib's automatic layout would draw everything twice and take longer than the
    pictures.
    """
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    width, bottom = 3.1 * max(columns, 2), 0.1 + 0.25 * lines_below
    height = TITLE + rows * TILE + bottom
    figure = plt.figure(figsize=(width, height), layout="none")
    across = 1 / max(columns, 2)
    left = (1 - columns * across) / 2
    tiles = []
    for place in range(count):
        row, column = divmod(place, columns)
        place_of = (
            left + (column + 0.03) * across,
            (bottom + (rows - row - 1) * TILE + 0.05) / height,
            0.94 * across,
            (TILE - WORDS) / height,
        )
        axes = figure.add_axes(place_of, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        tiles.append(axes)
    return figure, tiles


def named(sample_name: str) -> str:
    """The shortened name of an image for the text above it."""
    return figures.shortened(Path(sample_name).name, 28)
