"""Draws the results of scale.py: rate, processor time, memory and start-up by number of Datasets. Started by scale.py.

Run with the interpreter of the environment ``pipelines``: ``draw_scale.py FOUND.json PICTURE.png``.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#1f6f8b", "#d9822b", "#8a8a8a"
Item = dict[str, Any]


def main() -> None:
    """Draw the picture."""
    found: list[Item] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(2, 2, figsize=(8.4, 5.6), layout="constrained")
    _rates(axes[0][0], found)
    _processor(axes[0][1], found)
    _memory(axes[1][0], found)
    _starts(axes[1][1], found)
    for axis in axes[0]:
        axis.set_xscale("log")
    for axis in axes.flat:
        axis.set_ylim(bottom=0)
        axis.set_xlabel("Datasets")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(sys.argv[2], dpi=130)


def _line(axis: Axes, found: list[Item], value: Callable[[Item], float], label: str, colour: str) -> None:
    sizes = sorted({item["number"] for item in found})
    middles = [statistics.median(value(item) for item in found if item["number"] == size) for size in sizes]
    axis.plot(sizes, middles, "o-", color=colour, label=label, markersize=4)


def _rates(axis: Axes, found: list[Item]) -> None:
    axis.set_title("Datasets/s to Ready")
    _line(axis, found, lambda item: item["number"] / item["ready"], "Pelagos", BLUE)
    _line(axis, found, _bound, "bound by the API server's own limits", GREY)


def _bound(item: Item) -> float:
    patches = sum(number for what, number in item["writes"].items() if "events" not in what) / item["number"]
    return float(1 / (1 / item["limit"]["creations"] + patches / item["limit"]["patches"]))


def _processor(axis: Axes, found: list[Item]) -> None:
    axis.set_title("CPU ms per Dataset")
    _line(axis, found, lambda item: item["cpu"] * 1000 / item["number"], "operator", BLUE)
    _line(axis, found, lambda item: item["plane_cpu"] * 1000 / item["number"], "API server and etcd", ORANGE)


def _memory(axis: Axes, found: list[Item]) -> None:
    axis.set_title("memory of the operator, MB")
    _line(axis, found, lambda item: item["full_rss"] / 1e6, "after the burst", ORANGE)
    _line(axis, found, lambda item: item["again_rss"] / 1e6, "after a start", BLUE)
    _line(axis, found, lambda item: item["rss"] / 1e6, "without Datasets", GREY)


def _starts(axis: Axes, found: list[Item]) -> None:
    axis.set_title("seconds from start")
    _line(axis, found, lambda item: item["passes_full"], "to having looked at all", ORANGE)
    _line(axis, found, lambda item: item["start_full"], "to having listed all", BLUE)


if __name__ == "__main__":
    main()
