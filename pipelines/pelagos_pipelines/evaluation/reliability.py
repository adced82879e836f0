"""The reliability diagram: the share of right claims by confidence. Called by evaluation.calibrating."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from pelagos_pipelines.evaluation import figures
from pelagos_pipelines.evaluation.calibration import BINS, Reliability
from pelagos_pipelines.serving.predictions import Scaling

FILE = "reliability.png"
_RIGHT, _GAP = figures.PALETTE[0], figures.PALETTE[1]


def draw(before: Reliability, after: Reliability | None, scaling: Scaling | None, things: str, folder: Path) -> None:
    """Draw the states before and after calibration side by side, with the number of ``things`` in each bin below."""
    shown = [("as the network gives them", before)]
    if after is not None and scaling is not None:
        offset = f", offset {scaling.offset:.3g}" if scaling.offset else ""
        shown.append((f"calibrated: temperature {scaling.temperature:.3g}{offset}", after))
    with mpl.rc_context(figures.STYLE):
        figure, rows = plt.subplots(
            2, len(shown), figsize=(4.6 * len(shown) + 0.8, 6), height_ratios=(3, 1), sharex=True, squeeze=False
        )
        most = max(int(one.counts.max(initial=0)) for _, one in shown)
        for (title, one), upper, lower in zip(shown, rows[0], rows[1], strict=True):
            _bins(upper, one)
            error = f"ECE {one.error:.3f}" if np.isfinite(one.error) else "no ECE: nothing was found"
            upper.set_title(f"Confidences {title}\n{error}", fontsize=10)
            _counts(lower, one, most, things)
        rows[0][0].set_ylabel("share that is right")
        rows[1][0].set_ylabel(f"{things}")
        figure.suptitle("Reliability on the test split", fontweight="bold", fontsize=12)
        handles, names = rows[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
        figures.save(figure, folder / FILE)


def _bins(axes: Any, one: Reliability) -> None:
    """Draw a bar for each bin with claims, and its gap to the mean confidence."""
    left, width, filled = np.arange(BINS) / BINS, 1 / BINS, one.counts > 0
    axes.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1.2, label="as sure as right", zorder=3)
    look = {"align": "edge", "width": width, "edgecolor": "white", "linewidth": 0.6}
    axes.bar(left[filled], one.right[filled], color=_RIGHT, label="right", **look)
    low, high = np.minimum(one.confidence, one.right)[filled], np.maximum(one.confidence, one.right)[filled]
    hatched = {"facecolor": "none", "edgecolor": _GAP, "hatch": "////", "linewidth": 1.0}
    axes.bar(left[filled], high - low, bottom=low, label="gap to the mean confidence", **look | hatched)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))


def _counts(axes: Any, one: Reliability, most: int, things: str) -> None:
    """Draw the number of claims in each bin, with labels for non-empty ones."""
    left, width = np.arange(BINS) / BINS, 1 / BINS
    axes.bar(left, one.counts, align="edge", width=width, color="0.7", edgecolor="white", linewidth=0.6)
    for place, count in zip(left, one.counts.tolist(), strict=True):
        if count:
            axes.text(place + width / 2, count, _short(count), ha="center", va="bottom", fontsize=6.5)
    axes.set(xlim=(0, 1), ylim=(0, max(most, 1) * 1.25), xlabel="confidence")
    axes.locator_params(axis="y", nbins=3, integer=True)
    axes.set_label(things)


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
