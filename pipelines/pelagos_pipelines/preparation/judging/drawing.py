"""Heat maps of a report, as PNG, and the colours of splits: those of Okabe and Ito, told apart by all eyes, and cividis."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from pelagos_contract.dataset import SPLITS
from pelagos_pipelines.pages import svg
from pelagos_pipelines.preparation import pictures

SPLIT_COLOURS = dict(zip(SPLITS, ("#0072B2", "#E69F00", "#009E73"), strict=True))
_HEAT = np.array([(0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (195, 180, 105), (254, 232, 56)], float)
"""Cividis (J. Nuñez, C. Anderton and R. Renslow, PLoS ONE 13, 2018), at equal distances."""
ENLARGED = 6
"""Pixels of a cell of a heat map."""
GRID = 48


def position_map(boxes: Any) -> bytes:
    """PNG of how many boxes [boxes, 4] cover each place of an image, all images laid on top of each other."""
    edges = np.clip(boxes[:, :2], 0, 1), np.clip(boxes[:, :2] + boxes[:, 2:], 0, 1)
    (left, top), (right, bottom) = (np.floor(one * GRID).astype(int).clip(0, GRID).T for one in edges)
    right, bottom = np.maximum(right, left + 1).clip(0, GRID), np.maximum(bottom, top + 1).clip(0, GRID)
    # Corners alone are counted; sums along both sides make areas of them.
    corners = np.zeros((GRID + 1, GRID + 1))
    for rows, columns, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(corners, (rows, columns), sign)
    return heat(corners.cumsum(axis=0).cumsum(axis=1)[:GRID, :GRID])


SMALLEST = 0.005
"""Of an image's side: boxes below are counted with those of this size."""


def size_map(boxes: Any) -> bytes:
    """PNG of how many boxes [boxes, 4] have which width (to the right) and height (upwards), in logarithms from SMALLEST to 1."""
    ticks = np.linspace(np.log(SMALLEST), 0, GRID + 1)
    across, down = (np.log(boxes[:, side].clip(SMALLEST, 1)) for side in (2, 3))
    return heat(np.histogram2d(down, across, bins=(ticks, ticks))[0][::-1])


LINEAR = {"0": 0.0, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "100 %": 1.0}
LOGARITHMIC = {
    f"{share:.3g} %": 1 - float(np.log(share / 100) / np.log(SMALLEST)) for share in (100 * SMALLEST, 2, 10, 30, 100)
}
"""By their words, where ticks stand along a side, from 0 to 1."""


def framed(png: bytes, described: str, ticks: Mapping[str, float]) -> str:
    """A heat map with ticks below and on its left, where they are as from the top where they are not logarithms."""
    side, left, below = GRID * ENLARGED, 46, 20
    data = base64.b64encode(png).decode("ascii")
    parts = [f'<image href="data:image/png;base64,{data}" x="{left}" y="6" width="{side}" height="{side}"/>']
    for told, at in ticks.items():
        down = at if ticks is LINEAR else 1 - at
        parts.append(f'<text x="{left - 5}" y="{6 + side * down + 4:.0f}" class="name">{told}</text>')
        parts.append(f'<text x="{left + side * at:.0f}" y="{side + below}" text-anchor="middle">{told}</text>')
    return svg(side + left + 24, side + below + 6, described, parts)


def heat(counts: Any) -> bytes:
    """PNG of a table of counts, by their square root: few are seen beside many."""
    shares = np.sqrt(np.maximum(counts, 0) / max(float(counts.max()), 1e-9))
    at = shares * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    colours = _HEAT[low] + (_HEAT[low + 1] - _HEAT[low]) * (at - low)[..., None]
    pixels = np.repeat(np.repeat(colours.round().astype(np.uint8), ENLARGED, axis=0), ENLARGED, axis=1)
    height, width = pixels.shape[:2]
    return pictures.png(np.ascontiguousarray(pixels).data.cast("B"), width, height, 3, 8)
