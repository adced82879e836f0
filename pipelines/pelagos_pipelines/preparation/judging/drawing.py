"""Draws the figures of a report: bars, tables and heat maps. Colours suit colour-blind readers, and never carry meaning alone.

No plotting library is used: loading one takes longer than drawing all figures. The colours are those of Okabe and Ito, and
cividis for heat maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pelagos_contract.splits import SPLITS
from pelagos_contract.text import shown
from pelagos_pipelines.preparation import pictures
from pelagos_pipelines.preparation.judging.sketch import INK, PAPER, Figure, Patch, Raster, Word

SPLIT_COLOURS: Mapping[str, str] = dict(zip(SPLITS, ("#0072B2", "#E69F00", "#009E73"), strict=True))
BAR, MISSING, PALE_MISSING = "#0072B2", "#D55E00", "#FAECE0"
_HEAT = np.array([(0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (195, 180, 105), (254, 232, 56)], float)
"""Cividis (J. Nuñez, C. Anderton and R. Renslow, PLoS ONE 13, 2018), at equal distances."""
ROW = 20
NAMES, FIGURES = 210, 200
"""Pixels for names on the left, and for numbers on the right."""
LONGEST = 30
CELL = 34
ENLARGED = 6
"""Pixels per cell of a heat map."""
GRID = 48

Part: TypeAlias = Word | Patch | Raster


def shortened(text: str, longest: int = LONGEST) -> str:
    """A printable name, shortened to fit beside a figure."""
    text = shown(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def bars(
    names: Sequence[str], parts: npt.NDArray[Any], colours: Mapping[str, str], figures: Sequence[str], described: str
) -> Figure:
    """A horizontal bar for each name, stacked from ``parts`` [names, colours], with the text of ``figures`` after it.

    ``colours`` are by meaning. If there are several, a legend is drawn above the bars.
    """
    longest, room = max(float(parts.sum(axis=1).max()), 1e-9), 420
    head = ROW + 6 if len(colours) > 1 else 0
    drawn: list[Part] = []
    for place, (told, colour) in enumerate(colours.items() if head else ()):
        drawn.append(Patch(NAMES + 110 * place, 4, 12, 12, colour))
        drawn.append(Word(NAMES + 110 * place + 18, 14, told))
    for place, name in enumerate(names):
        top, left = head + ROW * place + 2, float(NAMES)
        drawn.append(Word(NAMES - 8, top + 13, shortened(name), "end", told=name))
        for value, colour in zip(parts[place], colours.values(), strict=True):
            length = room * float(value) / longest
            if length > 0:
                drawn.append(Patch(left, top + 2, length, ROW - 6, colour))
            left += length
        drawn.append(Word(left + 6, top + 13, figures[place]))
    return Figure(NAMES + room + FIGURES, head + ROW * len(names) + 4, described, drawn)


def matrix(rows: Sequence[str], columns: Sequence[str], table: npt.NDArray[np.int64], described: str) -> Figure:
    """A table of counts [rows, columns]: the darker, the larger the share of the row. Empty cells have a frame and a 0."""
    head = 12 + round(5.2 * max((min(len(name), LONGEST) for name in columns), default=0))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    drawn: list[Part] = []
    for place, name in enumerate(columns):
        drawn.append(Word(NAMES + CELL * place + CELL / 2 + 4, head - 6, shortened(name), turned=-50, told=name))
    for row, name in enumerate(rows):
        top = head + ROW * row
        drawn.append(Word(NAMES - 8, top + 14, shortened(name), "end", told=name))
        for column in range(len(columns)):
            count, share = int(table[row, column]), float(shares[row, column])
            left = NAMES + CELL * column
            told = f"{name}, {columns[column]}: {count} images, {share:.1%} of the row"
            colour, frame = (_blue(share), "") if count else (PALE_MISSING, MISSING)
            drawn.append(Patch(left + 1, top + 1, CELL - 2, ROW - 2, colour, frame, told))
            ink = PAPER if count and share > 0.55 else INK
            drawn.append(Word(left + CELL / 2, top + 14, _brief(count), "middle", colour=ink))
    return Figure(NAMES + CELL * len(columns) + head, head + ROW * len(rows) + 4, described, drawn)


def position_map(boxes: npt.NDArray[np.float64]) -> bytes:
    """A PNG of how many boxes [boxes, 4] cover each place, with all images laid on top of each other."""
    edges = np.clip(boxes[:, :2], 0, 1), np.clip(boxes[:, :2] + boxes[:, 2:], 0, 1)
    (left, top), (right, bottom) = (np.floor(one * GRID).astype(int).clip(0, GRID).T for one in edges)
    right, bottom = np.maximum(right, left + 1).clip(0, GRID), np.maximum(bottom, top + 1).clip(0, GRID)
    # Only corners are counted; cumulative sums along both axes turn them into areas.
    corners = np.zeros((GRID + 1, GRID + 1))
    for rows, columns, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(corners, (rows, columns), sign)
    return heat(corners.cumsum(axis=0).cumsum(axis=1)[:GRID, :GRID])


SMALLEST = 0.005
"""Fraction of an image's side: smaller boxes are counted with those of this size."""


def size_map(boxes: npt.NDArray[np.float64]) -> bytes:
    """A PNG of the numbers of boxes [boxes, 4] by width (to the right) and height (upwards), logarithmic from SMALLEST to 1."""
    ticks = np.linspace(np.log(SMALLEST), 0, GRID + 1)
    across, down = (np.log(boxes[:, side].clip(SMALLEST, 1)) for side in (2, 3))
    return heat(np.histogram2d(down, across, bins=(ticks, ticks))[0][::-1])


LINEAR = {"0": 0.0, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "100 %": 1.0}
LOGARITHMIC = {
    f"{share:.3g} %": 1 - float(np.log(share / 100) / np.log(SMALLEST)) for share in (100 * SMALLEST, 2, 10, 30, 100)
}
"""The positions of ticks along a side, from 0 to 1, by their labels."""


def framed(png: bytes, described: str, ticks: Mapping[str, float]) -> Figure:
    """A heat map with ticks below and on its left; on the left, LINEAR ticks count from the top, others from the bottom."""
    side, left, below = GRID * ENLARGED, 46, 20
    drawn: list[Part] = [Raster(left, 6, side, side, png)]
    for told, at in ticks.items():
        down = at if ticks is LINEAR else 1 - at
        drawn.append(Word(left - 5, round(6 + side * down + 4), told, "end"))
        drawn.append(Word(round(left + side * at), side + below, told, "middle"))
    return Figure(side + left + 24, side + below + 6, described, drawn)


def heat(counts: npt.NDArray[np.float64]) -> bytes:
    """A PNG of a table of counts, coloured by their square roots, so that low counts are visible beside high ones."""
    shares = np.sqrt(np.maximum(counts, 0) / max(float(counts.max()), 1e-9))
    at = shares * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    colours = _HEAT[low] + (_HEAT[low + 1] - _HEAT[low]) * (at - low)[..., None]
    pixels = np.repeat(np.repeat(colours.round().astype(np.uint8), ENLARGED, axis=0), ENLARGED, axis=1)
    height, width = pixels.shape[:2]
    return pictures.png(np.ascontiguousarray(pixels).data.cast("B"), width, height, 3, 8)


def _blue(share: float) -> str:
    """A colour from nearly white, for a share of 0, to BAR, for 0.8 and more."""
    pale, deep = np.array((235, 243, 250)), np.array((0, 114, 178))
    return "#" + "".join(f"{round(one):02x}" for one in pale + (deep - pale) * min(share / 0.8, 1))


def _brief(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
