"""Pages of HTML for people that ask for nothing outside of them, whatever the names in them are: their look, and what is in them.

Figures are SVG, without a plotting library, which takes longer to load than all of them to draw. The colours are those of Okabe
and Ito: told apart by all eyes, and they never tell alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from pelagos_contract.judgement import PAGE_BEGINS
from pelagos_contract.text import shown

BAR, MISSING = "#0072B2", "#D55E00"
ROW = 20
NAMES, FIGURES = 210, 200
"""Pixels for names on the left, and for figures on the right."""
LONGEST = 30
CELL = 34
_STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;color:#1b2530;background:#fff;margin:0 auto;max-width:1040px;
padding:24px}h1{font-size:26px;margin:0}h2{font-size:19px;margin:36px 0 6px;border-bottom:1px solid #d7dee5;padding-bottom:4px}
h3{font-size:15px;margin:18px 0 4px}p{margin:6px 0;max-width:80ch}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}.tile{border:1px solid #d7dee5;border-radius:6px;padding:8px 14px;
min-width:96px}.tile b{display:block;font-size:21px}.note{color:#4a5866}.said{border-left:4px solid #E69F00;padding:4px 12px;
background:#fdf6e7;margin:6px 0;overflow-wrap:anywhere}svg{max-width:100%;height:auto}svg text{font-size:11.5px;fill:#1b2530}
svg .name{text-anchor:end}svg .light{fill:#fff}.key span{display:inline-block;width:12px;height:12px;margin:0 5px 0 14px;
vertical-align:-1px}.pair{display:flex;flex-wrap:wrap;gap:36px}figure{margin:8px 0;max-width:360px}figcaption{color:#4a5866}
img{max-width:100%;height:auto}.wide{overflow-x:auto}table{border-collapse:collapse;margin:8px 0}
th,td{text-align:left;vertical-align:top;
padding:3px 14px 3px 0;border-bottom:1px solid #e4e9ee;overflow-wrap:break-word}
td img{max-width:none}td.n,th.n{text-align:right}
"""


def rendered(title: str, parts: Iterable[str], style: str = "") -> str:
    """A page of the ``parts``, which are HTML; ``style`` adds to the look that all pages have."""
    head = f'{PAGE_BEGINS}<meta name="viewport" content="width=device-width"><title>{words(title)}</title><style>'
    return "".join((head, _STYLE, style, "</style></head><body>", *parts, "</body></html>\n"))


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
    return svg(width, height, described, rows)


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
    return svg(width, height, described, out)


def svg(width: float, height: float, described: str, parts: Sequence[str]) -> str:
    """A figure of ``parts``, with words for those who do not see it."""
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
