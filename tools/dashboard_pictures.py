"""Draws the panels of the dashboards with data from Prometheus: ``dashboard_pictures.py DATA.json FOLDER``.

DATA.json is written by tests/monitoring/test_incidents.py; layout, units and thresholds come from manifests/dashboards.
Needs matplotlib, which the environment `pipelines` has.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

ROOT = Path(__file__).parents[1]
PAGE, CARD, EDGE, INK, FAINT, GRID = "#f4f5f8", "#ffffff", "#dcdfe6", "#24292e", "#6b7280", "#e6e8ee"
COLORS = {"green": "#2f9e5f", "orange": "#e8871e", "red": "#d43a3a"}
LINES = ["#3274d9", "#e8871e", "#2f9e5f", "#a352cc", "#d43a3a", "#37a3b5", "#8a6d3b", "#7b8794", "#c2447e", "#5b6ee1"]
COLUMN, ROW, HEADING = 0.62, 0.34, 0.34
"""Inches: the width of a 24th of the page, the height of a grid row, and the height of a panel's heading."""
MOST_BARS, MOST_ROWS, MOST_LEGEND = 12, 8, 8


def main() -> None:
    """Draw all dashboards."""
    seen = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8, "text.color": INK, "axes.edgecolor": EDGE})
    for board in seen["dashboards"]:
        layout = json.loads((ROOT / f"manifests/dashboards/pelagos-{board['name']}.json").read_text(encoding="utf-8"))
        figure = draw(layout, {panel["title"]: panel["series"] for panel in _distinct(board, layout)}, seen)
        figure.savefig(target / f"{board['name']}.png", dpi=110, facecolor=PAGE, metadata={"Software": None})
        plt.close(figure)
        sys.stdout.write(f"{target / board['name']}.png\n")


def _distinct(board: dict[str, Any], layout: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels' series keyed by panel id, because two panels may have the same title."""
    panels = [panel for panel in layout["panels"] if panel["type"] != "row"]
    return [
        {"title": panel["id"], "series": found["series"]} for panel, found in zip(panels, board["panels"], strict=True)
    ]


def draw(layout: dict[str, Any], series: dict[int, list[dict[str, Any]]], seen: dict[str, Any]) -> Figure:
    """Draw one dashboard. ``series``: those of each panel by its id."""
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in layout["panels"])
    width, height = 24 * COLUMN + 0.3, lines * ROW + 0.75
    figure = plt.figure(figsize=(width, height))
    figure.text(0.2 / width, 1 - 0.3 / height, layout["title"], fontsize=14, weight="bold", va="center")
    figure.text(1 - 0.2 / width, 1 - 0.3 / height, "namespace: All", fontsize=9, va="center", ha="right", color=FAINT)
    for panel in layout["panels"]:
        place = panel["gridPos"]
        left, top = 0.15 + place["x"] * COLUMN, height - 0.6 - place["y"] * ROW
        box = (left, top - place["h"] * ROW, place["w"] * COLUMN, place["h"] * ROW)
        if panel["type"] == "row":
            figure.text(
                (left + 0.05) / width, (top - ROW / 2) / height, f"\u25be {panel['title']}", fontsize=10, va="center"
            )
        else:
            _card(figure, panel, _inset(box, 0.04), series[panel["id"]], seen)
    return figure


Box = tuple[float, float, float, float]
"""Left, bottom, width and height in inches."""


def _inset(box: Box, by: float) -> Box:
    return box[0] + by, box[1] + by, box[2] - 2 * by, box[3] - 2 * by


def _axes(figure: Figure, box: Box) -> Axes:
    width, height = figure.get_size_inches()
    return figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))


def _card(figure: Figure, panel: dict[str, Any], box: Box, series: list[dict[str, Any]], seen: dict[str, Any]) -> None:
    card = _axes(figure, box)
    card.set_axis_off()
    card.add_patch(Rectangle((0, 0), 1, 1, transform=card.transAxes, facecolor=CARD, edgecolor=EDGE))
    card.text(0.1 / box[2], 1 - 0.17 / box[3], panel["title"], transform=card.transAxes, va="center", weight="bold")
    left, bottom, width, height = box
    inner = (left, bottom, width, height - HEADING)
    if panel["type"] == "timeseries":
        _lines(_axes(figure, (left + 0.62, bottom + 0.58, width - 0.8, inner[3] - 0.64)), panel, series, seen)
    elif panel["type"] == "stat":
        _number(card, panel, series)
    elif panel["type"] == "bargauge":
        _bars(_axes(figure, _inset(inner, 0.08)), panel, series)
    else:
        _table(_axes(figure, _inset(inner, 0.08)), panel, series)


def _lines(axes: Axes, panel: dict[str, Any], series: list[dict[str, Any]], seen: dict[str, Any]) -> None:
    start, span = seen["start"], (0, seen["end"] - seen["start"])
    defaults = panel["fieldConfig"]["defaults"]
    axes.set_facecolor(CARD)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=7, length=0)
    drawn = [(named(entry), *_points(entry, start)) for entry in series]
    if defaults["custom"]["stacking"]["mode"] == "normal":
        times = sorted({time for _, found, _ in drawn for time in found})
        known = [dict(zip(found, values, strict=True)) for _, found, values in drawn]
        # A gap in one series must not interrupt the others.
        layers = [
            [0.0 if math.isnan(layer.get(time, 0.0)) else layer.get(time, 0.0) for time in times] for layer in known
        ]
        axes.stackplot(times, layers, labels=[name for name, _, _ in drawn], colors=LINES, alpha=0.55, linewidth=0)
    else:
        for number, (name, found, values) in enumerate(drawn):
            axes.plot(found, values, label=name, color=LINES[number % len(LINES)], linewidth=1.3)
    highest = max([value for _, _, values in drawn for value in values if math.isfinite(value)], default=1)
    for step in defaults["thresholds"]["steps"][1:]:
        if step["value"] <= 1.6 * max(highest, 1e-9):
            axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylim(bottom=0, top=defaults.get("max", 0) * 1.04 or None)
    axes.yaxis.set_major_formatter(lambda value, _: written(value, defaults["unit"]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.set_xlim(*span)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[:MOST_LEGEND],
        labels[:MOST_LEGEND],
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.1),
        ncols=_legend_columns(labels, panel["gridPos"]["w"]),
        fontsize=6.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.0,
        borderpad=0,
        labelspacing=0.25,
    )


def _legend_columns(labels: list[str], width: int) -> int:
    """The number of columns that the longest name allows in a panel of this width in 24ths."""
    letters = len(max([*labels, ""], key=len)) + 6
    return max(2, min(len(labels), width * 10 // letters))


def _points(entry: dict[str, Any], start: float) -> tuple[list[float], list[float]]:
    """Times since the start, and values; gaps of more than two steps stay empty."""
    times: list[float] = []
    values: list[float] = []
    for time, value in entry["values"]:
        if times and time - start - times[-1] > 2.2:
            times.append(times[-1] + 0.5)
            values.append(math.nan)
        times.append(time - start)
        values.append(float(value))
    return times, values


def _number(card: Axes, panel: dict[str, Any], series: list[dict[str, Any]]) -> None:
    value = float(series[0]["value"][1])
    text = written(value, panel["fieldConfig"]["defaults"]["unit"])
    card.text(
        0.5, 0.4, text, transform=card.transAxes, ha="center", va="center", fontsize=21, color=_color(panel, value)
    )


def _bars(axes: Axes, panel: dict[str, Any], series: list[dict[str, Any]]) -> None:
    axes.set_axis_off()
    shown = series[:MOST_BARS]
    values = [float(entry["value"][1]) for entry in shown]
    most = max([*values, 1e-9])
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for place, (entry, value) in enumerate(zip(shown, values, strict=True)):
        axes.add_patch(
            Rectangle((0.42, place + 0.15), 0.46 * value / most, 0.7, facecolor=_color(panel, value), alpha=0.75)
        )
        axes.text(0.41, place + 0.5, named(entry), ha="right", va="center", fontsize=7)
        axes.text(0.43 + 0.46 * value / most, place + 0.5, written(value, unit), va="center", fontsize=7, weight="bold")
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(shown), 5), 0)


def _table(axes: Axes, panel: dict[str, Any], series: list[dict[str, Any]]) -> None:
    axes.set_axis_off()
    options = panel["transformations"][0]["options"]
    columns = sorted(options["indexByName"], key=options["indexByName"].__getitem__)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    rows = [
        [
            written(float(entry["value"][1]), unit) if column == "Value" else entry["metric"].get(column, "")
            for column in columns
        ]
        for entry in series[:MOST_ROWS]
    ]
    heads = [options["renameByName"][column] for column in columns]
    widths = [max(len(str(row[place])) for row in [heads, *rows]) + 2 for place in range(len(heads))]
    axes.set_xlim(0, sum(widths))
    axes.set_ylim(MOST_ROWS + 1, 0)
    for line, row in enumerate([heads, *rows]):
        left = 0
        for text, width in zip(row, widths, strict=True):
            axes.text(left + 0.5, line + 0.5, text, va="center", fontsize=7, color=INK if line else FAINT)
            left += width
        axes.axhline(line + 1, color=GRID, linewidth=0.6)


def _color(panel: dict[str, Any], value: float) -> str:
    chosen = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            chosen = step["color"]
    return COLORS[chosen]


def named(entry: dict[str, Any]) -> str:
    """The legend of a series, filled as Grafana does."""
    if not entry["legend"]:
        return ", ".join(f"{name}={value}" for name, value in sorted(entry["metric"].items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda found: entry["metric"].get(found[1], ""), entry["legend"])


def written(value: float, unit: str) -> str:
    """A value with its unit, in three significant digits."""
    if not math.isfinite(value):
        return "no data"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    if unit == "s":
        if 0 < abs(value) < 1:
            return f"{value * 1000:.3g} ms"
        # Durations of a few minutes stay in seconds, so that an axis has a single unit.
        scale, name = next(
            ((size, name) for size, name in ((86_400, "d"), (3600, "h")) if abs(value) >= 2 * size), (1, "s")
        )
        return f"{value / scale:.3g} {name}"
    suffix = {"ops": " ops/s", "reqps": " req/s"}.get(unit, "")
    return f"{value:.4g}{suffix}"


if __name__ == "__main__":
    main()
