"""The page of a comparison of trainings: one self-contained HTML file. Names from others are escaped."""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pelagos_contract.text import shown

_LARGEST = 1e100


@dataclass(frozen=True)
class Compared:
    """A training with its figures on the test split, in total and per seed."""

    name: str
    status: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The dataset version that it was trained and measured on."""
        return str((self.status.get("dataset") or {}).get("version"))

    def figures(self, metric: str) -> list[float]:
        """The values of a metric, one per seed; empty when the training has none."""
        seeds = self.status.get("seeds") or ()
        each = [(seed.get("metrics") or {}).get(metric) for seed in seeds] or [self._figure(metric)]
        try:
            found = [float(str(value)) for value in each]
        except (TypeError, ValueError):  # some seed has no value
            return []
        # No means are given for values that are not numbers, or so large that their sum overflows.
        return found if all(abs(value) <= _LARGEST for value in found) else []

    def words(self, metric: str) -> str:
        """The figure as text, with its standard deviation over seeds if there are several, else with its interval."""
        found = self.figures(metric)
        if not found:
            return "-"
        mean = f"{statistics.fmean(found):.4f}"
        if len(found) > 1:
            return f"{mean} ± {statistics.stdev(found):.4f}"
        ends = (self.status.get("intervals") or {}).get(metric)
        return mean if not ends else f"{mean} ({ends['low']}–{ends['high']})"

    def _figure(self, metric: str) -> Any:
        return (self.status.get("metrics") or {}).get(metric)


def said(difference: Mapping[str, Any]) -> str:
    """A difference as text, with its interpretation."""
    amount = difference.get("difference")
    return str(difference["words"]) if amount is None else f"{amount:+.4f}, {difference['words']}"


_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.25rem .9rem .25rem 0;vertical-align:top;
border-bottom:1px solid #8884;overflow-wrap:anywhere}
svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:currentColor}
"""
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#8c564b")
"""Okabe and Ito's palette, which people with any kind of color vision can distinguish."""


def written(trainings: Sequence[Compared], found: Mapping[str, Any]) -> str:
    """The HTML of the page; ``found`` is the result of the command."""
    names = [each.name for each in trainings]
    head = ["figure", *names, *(f"{name} − {names[0]}" for name in names[1:])]
    rows = [
        [row["metric"], *row["values"].values(), *map(said, row["differences"].values())] for row in found["figures"]
    ]
    parts = [_figure(trainings, [row["metric"] for row in found["figures"]]), _html(head, rows)]
    for kind in ("parameters", "data", "environment"):
        if found[kind]:
            listed = [
                [path, *("-" if value is None else value for value in values.values())]
                for path, values in found[kind].items()
            ]
            parts += [f"<h2>Differences in {kind}</h2>", _html([kind, *names], listed)]
    title = html.escape(shown(f"Trainings {', '.join(names)}"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def _html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(shown(str(cell)))}</{tag}>" for cell in row) + "</tr>"

    return f"<table>{cells('th', head)}{''.join(cells('td', row) for row in rows)}</table>"


def _figure(trainings: Sequence[Compared], metrics: Sequence[str]) -> str:
    """An SVG with a row per figure from 0 to 1: a dot for each seed, a line over their range, a bar at their mean."""
    step, left, width = 14 * len(trainings) + 16, 150, 700
    drawn, top = [], 10
    shown_metrics = [metric for metric in metrics if any(_fits(each.figures(metric)) for each in trainings)]
    for metric in shown_metrics:
        drawn.append(f'<text x="0" y="{top + step / 2:.0f}">{html.escape(shown(metric))}</text>')
        for number, each in enumerate(trainings):
            values = each.figures(metric)
            if not _fits(values):
                continue
            y, color = top + 12 + 14 * number, _COLORS[number]
            at = [left + (width - left - 20) * value for value in values]
            mean = statistics.fmean(at)
            drawn.append(f'<line x1="{min(at):.1f}" x2="{max(at):.1f}" y1="{y}" y2="{y}" stroke="{color}"/>')
            drawn += [f'<circle cx="{x:.1f}" cy="{y}" r="3.5" fill="{color}" fill-opacity=".6"/>' for x in at]
            drawn.append(f'<rect x="{mean - 1:.1f}" y="{y - 6}" width="2" height="12" fill="{color}"/>')
        top += step
    axis = "".join(
        f'<text x="{left + (width - left - 20) * mark / 4 - 8:.0f}" y="{top + 14}">{mark / 4:.2f}</text>'
        for mark in range(5)
    )
    legend = "".join(
        f'<rect x="{left + 130 * (number % 4)}" y="{top + 26 + 18 * (number // 4)}" width="10" height="10" '
        f'fill="{_COLORS[number]}"/>'
        f'<text x="{left + 14 + 130 * (number % 4)}" y="{top + 35 + 18 * (number // 4)}">'
        f"{html.escape(shown(each.name)[:16])}</text>"
        for number, each in enumerate(trainings)
    )
    height = top + 44 + 18 * ((len(trainings) - 1) // 4)
    what = f'viewBox="0 0 {width} {height}" role="img" aria-label="Figures of the test split"'
    return f"<svg {what}>{''.join(drawn)}{axis}{legend}</svg>"


def _fits(values: Sequence[float]) -> bool:
    return bool(values) and all(0 <= value <= 1 for value in values)
