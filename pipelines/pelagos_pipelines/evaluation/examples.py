"""Example pictures of an evaluation: predictions beside the truth, from the best image to the worst one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from pelagos_pipelines.evaluation import detection, figures
from pelagos_pipelines.evaluation.ground_truth import Sample
from pelagos_pipelines.serving.predictor import Classification, Detections

SHOWN = 12
COLUMNS = 4
TRUTH, FOUND, WRONG = "#FFFFFF", "#56B4E9", "#E69F00"


def detections(
    samples: Sequence[Sample], found: Sequence[Detections], labels: Sequence[str], confidence: float, folder: Path
) -> None:
    """True boxes dashed, right predictions blue, wrong ones orange, at ``confidence``."""
    kept = [_above(predicted, confidence) for predicted in found]
    quality = [_f1(sample, predicted) for sample, predicted in zip(samples, kept, strict=True)]
    chosen = spread(quality)
    entries = (
        Line2D([], [], color="0.35", linestyle="--", label="truth"),
        Line2D([], [], color=FOUND, linewidth=2, label="found, class and place right"),
        Line2D([], [], color=WRONG, linewidth=2, label="found, wrong"),
    )
    title = f"Test images from best to worst (confidence ≥ {confidence:.2f})"
    with mpl.rc_context({**figures.STYLE, "axes.grid": False}):
        figure, tiles = _grid(len(chosen))
        for axes, index in zip(tiles, chosen, strict=True):
            _draw(axes, samples[index], kept[index], labels)
            axes.set_title(
                f"{figures.shortened(Path(samples[index].name).name, 28)}  F1 {quality[index]:.2f}", fontsize=8
            )
        figure.suptitle(title, fontweight="bold", fontsize=12)
        figure.legend(handles=entries, loc="outside lower center", ncols=3, frameon=False)
        figures.save(figure, folder / "examples.png")


def classifications(
    samples: Sequence[Sample], found: Sequence[Classification], labels: Sequence[str], folder: Path
) -> None:
    """Every image with its true and predicted class; a frame in orange marks a wrong one."""
    chances = [float(item.probabilities[sample.class_ids[0]]) for sample, item in zip(samples, found, strict=True)]
    chosen = spread(chances)
    with mpl.rc_context({**figures.STYLE, "axes.grid": False}):
        figure, tiles = _grid(len(chosen))
        for axes, index in zip(tiles, chosen, strict=True):
            true, guess = int(samples[index].class_ids[0]), int(found[index].probabilities.argmax())
            axes.imshow(samples[index].pixels()[..., ::-1])
            verdict = "right" if true == guess else f"wrong, is {figures.shortened(labels[true])}"
            chance = float(found[index].probabilities[guess])
            axes.set_title(f"{figures.shortened(labels[guess])} {chance:.2f}\n{verdict}", fontsize=9)
            for spine in axes.spines.values():
                spine.set(visible=True, color=figures.PALETTE[0] if true == guess else WRONG, linewidth=3)
        figure.suptitle("Test images by probability of the true class, best first", fontweight="bold", fontsize=12)
        figures.save(figure, folder / "examples.png")


def spread(quality: Sequence[float], count: int = SHOWN) -> list[int]:
    """Indices of ``count`` images evenly spread from the best to the worst quality."""
    order = np.argsort(-np.asarray(quality), kind="stable")
    return [int(order[place]) for place in np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]


def _grid(count: int) -> tuple[Any, list[Any]]:
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


def _draw(axes: Any, sample: Sample, found: Detections, labels: Sequence[str]) -> None:
    axes.imshow(sample.pixels()[..., ::-1])
    for box in sample.boxes:
        # Black under white is seen on bright and on dark ground.
        _box(axes, box, "black", linewidth=2.4)
        _box(axes, box, TRUTH, linewidth=1.3, linestyle="--")
    right = _right(sample, found)
    for index in range(len(found.boxes)):
        colour = FOUND if index in right else WRONG
        _box(axes, found.boxes[index], colour, linewidth=1.8)
        x1, y1, x2, _ = found.boxes[index]
        text = f"{figures.shortened(labels[found.class_ids[index]], 14)} {found.scores[index]:.2f}"
        ground = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        # Near the upper and the right edge the text goes inside, where it is not cut off.
        below, left = y1 < 0.08 * found.height, x1 > 0.6 * found.width
        place = {"va": "top" if below else "bottom", "ha": "right" if left else "left"}
        axes.text(x2 if left else x1, y1, text, fontsize=7, bbox=ground, clip_on=True, **place)


def _box(axes: Any, box: Any, colour: str, **look: Any) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, **look))


def _right(sample: Sample, found: Detections) -> set[int]:
    """Indices of predictions that match a true box of their class."""
    pairs = detection.match(sample.boxes, found.boxes, 0.5)
    return {guess for true, guess in pairs if sample.class_ids[true] == found.class_ids[guess]}


def _f1(sample: Sample, found: Detections) -> float:
    """F1 of one image; an image without boxes on either side is perfect."""
    boxes = len(sample.boxes) + len(found.boxes)
    return 2 * len(_right(sample, found)) / boxes if boxes else 1.0


def _above(found: Detections, confidence: float) -> Detections:
    kept = found.scores >= confidence
    return Detections(found.width, found.height, found.boxes[kept], found.scores[kept], found.class_ids[kept])
