"""Example pictures of an evaluation, from the best image to the worst one: their grid. What is drawn in it differs by task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

SHOWN = 12
COLUMNS = 4
TRUTH, FOUND, WRONG = "#FFFFFF", "#56B4E9", "#E69F00"


def spread(quality: Sequence[float], count: int = SHOWN) -> list[int]:
    """Indices of ``count`` images evenly spread from the best to the worst quality."""
    order = np.argsort(-np.asarray(quality), kind="stable")
    return [int(order[place]) for place in np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]


def grid(count: int) -> tuple[Any, list[Any]]:
    """A figure, and axes for so many images."""
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure, table = plt.subplots(rows, columns, figsize=(3.1 * max(columns, 2), 2.6 * rows + 0.9), squeeze=False)
    tiles = list(table.flat)
    for axes in tiles:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    for axes in tiles[count:]:
        axes.set_visible(False)
    return figure, tiles[:count]
