"""A figure of the primary metric of each slice of the test split, as bars with intervals, worst slice first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from pelagos_contract import metrics as names
from pelagos_contract.training import Interval, SlicedField
from pelagos_pipelines.evaluation import figures

NAME = "slices.png"
MOST = 25
"""Most bars of a field; the remaining slices are counted below them."""
WORST, USUAL, UNKNOWN = figures.PALETTE[1], figures.PALETTE[0], "0.6"


@dataclass(frozen=True)
class Bar:
    """A slice: its name, number of images, metric and interval, as far as known."""

    words: str
    images: int
    value: float | None
    interval: Interval | None
    colour: str = USUAL

    @property
    def end(self) -> float:
        """The largest value that the bar or its interval reaches."""
        return max(self.value or 0.0, self.interval.high if self.interval is not None else 0.0)


def rows(
    metrics: Mapping[str, float | None], intervals: Mapping[str, Interval], fields: Sequence[SlicedField]
) -> dict[str, list[Bar]]:
    """The bars of each field, worst first, those without a metric last."""
    found: dict[str, list[Bar]] = {}
    for field in fields:
        bars = []
        for one in field.slices:
            name = names.of_slice(field.field, one.value, field.metric)
            words = "not known" if one.value is None else figures.shortened(one.value, 32)
            colour = UNKNOWN if one.value is None else WORST if one.value == field.worst else USUAL
            bars.append(Bar(words, one.images, metrics[name], intervals.get(name), colour))
        ascending = sorted(bars, key=lambda bar: (bar.value is None, bar.value))
        found[field.field] = ascending
    return found


def draw(metric: str, whole: Bar, by_field: Mapping[str, Sequence[Bar]], folder: Path) -> None:
    """Write the figure, or remove it if there are no fields. ``whole`` is drawn as a reference line."""
    if not by_field:
        (folder / NAME).unlink(missing_ok=True)
        return
    heights = [min(len(bars), MOST) + (len(bars) > MOST) + 1 for bars in by_field.values()]
    with mpl.rc_context({**figures.STYLE, "axes.grid": False}):
        figure, panels = plt.subplots(
            len(heights),
            1,
            figsize=(8.5, 1.2 + 0.34 * sum(heights) + 0.5 * len(heights)),
            height_ratios=heights,
            squeeze=False,
            sharex=True,
        )
        for axes, (field, bars) in zip(panels[:, 0], by_field.items(), strict=True):
            _panel(axes, field, bars, whole)
        longest = max(bar.end for bars in (*by_field.values(), [whole]) for bar in bars[:MOST])
        panels[-1, 0].set_xlim(0, max(longest, 0.05) * 1.12)
        panels[-1, 0].set_xlabel(
            f"{metric} on the test split\norange: the worst, grey: not known, lines: intervals at 95 %", fontsize=9
        )
        figure.suptitle(_title(metric, whole), fontweight="bold", fontsize=12)
        figures.save(figure, folder / NAME)


def _title(metric: str, whole: Bar) -> str:
    if whole.value is None:
        return f"{metric} by slice"
    told = f"{metric} by slice; the line is all images, {whole.value:.3f}"
    return told if whole.interval is None else f"{told} ({whole.interval.low:.3f} to {whole.interval.high:.3f})"


def _panel(axes: Axes, field: str, bars: Sequence[Bar], whole: Bar) -> None:
    shown = list(bars[:MOST])
    places = np.arange(len(shown))
    axes.barh(places, [bar.value or 0 for bar in shown], color=[bar.colour for bar in shown], height=0.68, alpha=0.85)
    for place, bar in enumerate(shown):
        if bar.interval is not None:
            ends = ([bar.interval.low, bar.interval.high], [place, place])
            axes.plot(*ends, color="black", linewidth=1.4, marker="|", markersize=7)
        told = "undefined" if bar.value is None else f"{bar.value:.3f}"
        axes.annotate(told, (bar.end, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
    labels = [f"{bar.words}  (n = {bar.images})" for bar in shown]
    if len(bars) > MOST:
        labels.append(f"and {len(bars) - MOST} more, none of them worse")
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    if whole.value is not None:
        axes.axvline(whole.value, color="0.25", linestyle="--", linewidth=1.2, zorder=0)
        if whole.interval is not None:
            axes.axvspan(whole.interval.low, whole.interval.high, color="0.5", alpha=0.15, zorder=0, linewidth=0)
    axes.set_title(field, loc="left", fontsize=10)
