"""Figures of a report: SVG for what is counted, PNG for heat maps. Colours are told apart by all eyes, and never tell alone.

Without a plotting library, which takes longer to load than all figures to draw. The colours are those of Okabe and Ito, and
cividis for heat.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pelagos_contract.dataset import SPLITS
from pelagos_contract.text import shown
from pelagos_pipelines.preparation import pictures

SPLIT_COLOURS = dict(zip(SPLITS, ("#0072B2", "#E69F00", "#009E73"), strict=True))
BAR, MISSING = "#0072B2", "#D55E00"
_HEAT = np.array([(0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (195, 180, 105), (254, 232, 56)], float)
"""Cividis (J. Nuñez, C. Anderton and R. Renslow, PLoS ONE 13, 2018), at equal distances."""
ROW = 20
NAMES, FIGURES = 210, 200
"""Pixels for names on the left, and for figures on the right."""
LONGEST = 30
CELL = 34
ENLARGED = 6
"""Pixels of a cell of a heat map."""
GRID = 48


def words(text: object) -> str:
    """Anybody's text, fit for HTML."""
    return escape(shown(str(text)))


def shortened(text: str, longest: int = LONGEST) -> str:
    """A name that fits beside a figure, fit for HTML."""
    return words(text if len(text) <= longest else f"{text[: longest - 1]}…")


def picture(png: bytes, described: str, width: int, height: int) -> str:
    """An image that is a part of the page."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{words(described)}" width="{width}" height="{height}">'


def bars(names: Sequence[str], parts: Any, colours: Sequence[str], figures: Sequence[str], described: str) -> str:
    """A horizontal bar for each name, of the ``parts`` [names, colours], with ``figures`` behind it."""
    longest, room = max(float(parts.sum(axis=1).max()), 1e-9), 420
    width, height = NAMES + room + FIGURES, ROW * len(names) + 4
    rows = []
    for place, name in enumerate(names):
        top, left = ROW * place + 2, float(NAMES)
        rows.append(
            f'<text x="{NAMES - 8}" y="{top + 13}" class="name">{shortened(name)}<title>{words(name)}</title></text>'
        )
        for value, colour in zip(parts[place], colours, strict=True):
            length = room * float(value) / longest
            if length > 0:
                rows.append(
                    f'<rect x="{left:.1f}" y="{top + 2}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
                )
            left += length
        rows.append(f'<text x="{left + 6:.1f}" y="{top + 13}" class="figure">{words(figures[place])}</text>')
    return _svg(width, height, described, rows)


def matrix(rows: Sequence[str], columns: Sequence[str], table: Any, described: str) -> str:
    """A table of counts [rows, columns]: the darker, the larger the share of its row. What is missing has a frame and a 0."""
    head = 12 + round(5.2 * max((min(len(name), LONGEST) for name in columns), default=0))
    width, height = NAMES + CELL * len(columns) + head, head + ROW * len(rows) + 4
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    out = []
    for place, name in enumerate(columns):
        x, y = NAMES + CELL * place + CELL / 2 + 4, head - 6
        out.append(
            f'<text x="{x}" y="{y}" transform="rotate(-50 {x} {y})">{shortened(name)}<title>{words(name)}</title></text>'
        )
    for row, name in enumerate(rows):
        top = head + ROW * row
        out.append(
            f'<text x="{NAMES - 8}" y="{top + 14}" class="name">{shortened(name)}<title>{words(name)}</title></text>'
        )
        for column in range(len(columns)):
            count, share = int(table[row, column]), float(shares[row, column])
            left = NAMES + CELL * column
            look = f'fill="{MISSING}" fill-opacity="0.12" stroke="{MISSING}"' if not count else f'fill="{_blue(share)}"'
            dark = ' class="light"' if count and share > 0.55 else ""
            told = words(f"{name}, {columns[column]}: {count} images, {share:.1%} of the row")
            out.append(
                f'<g><title>{told}</title><rect x="{left + 1}" y="{top + 1}" width="{CELL - 2}" height="{ROW - 2}" {look}/>'
                f'<text x="{left + CELL / 2}" y="{top + 14}" text-anchor="middle"{dark}>{_brief(count)}</text></g>'
            )
    return _svg(width, height, described, out)


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
    return _svg(side + left + 24, side + below + 6, described, parts)


def heat(counts: Any) -> bytes:
    """PNG of a table of counts, by their square root: few are seen beside many."""
    shares = np.sqrt(np.maximum(counts, 0) / max(float(counts.max()), 1e-9))
    at = shares * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    colours = _HEAT[low] + (_HEAT[low + 1] - _HEAT[low]) * (at - low)[..., None]
    pixels = np.repeat(np.repeat(colours.round().astype(np.uint8), ENLARGED, axis=0), ENLARGED, axis=1)
    height, width = pixels.shape[:2]
    return pictures.png(np.ascontiguousarray(pixels).data.cast("B"), width, height, 3, 8)


def _svg(width: float, height: float, described: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{words(described)}">{"".join(parts)}</svg>'
    )


def _blue(share: float) -> str:
    """From nearly white to BAR."""
    pale, deep = np.array((235, 243, 250)), np.array((0, 114, 178))
    return "#" + "".join(f"{round(one):02x}" for one in pale + (deep - pale) * min(share / 0.8, 1))


def _brief(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
