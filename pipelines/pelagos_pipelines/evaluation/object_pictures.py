"""Pictures of true and predicted objects: right, wrong, or in a crowd. Called by evaluation.tasks.

How an object is drawn, as a box, turned box or mask, differs by task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.lines import Line2D

from pelagos_pipelines.evaluation import detection, examples, figures
from pelagos_pipelines.evaluation.detection import Judged
from pelagos_pipelines.evaluation.examples import FOUND, IGNORED, WRONG, Pictures
from pelagos_pipelines.evaluation.matching import Objects
from pelagos_pipelines.evaluation.samples import Sample

Draw = Callable[[Any, Sample, Any, Judged], None]
"""Draws an image with its predictions into axes."""


def pictures(
    samples: Sequence[Sample], found: Sequence[Any], of: Objects, confidence: float, draw: Draw, thing: str
) -> Pictures:
    """Pictures of predictions at ``confidence``: right ones blue, wrong ones orange, those in crowds grey. ``thing`` names
    them."""
    kept = [one.chosen(one.scores >= confidence) for one in found]
    judged = detection.judged(of, len(samples), confidence)
    both = [*zip(samples, kept, judged, strict=True)]
    quality = [of_image.f1(len(sample.class_ids), len(predicted.scores)) for sample, predicted, of_image in both]

    def shown(axes: Any, index: int) -> None:
        draw(axes, *both[index])
        axes.set_title(f"{examples.named(samples[index].name)}  F1 {quality[index]:.2f}", fontsize=8)

    legend = [
        Line2D([], [], color="0.35", linestyle="--", label="truth"),
        Line2D([], [], color=FOUND, linewidth=2, label=f"found, class and {thing} right"),
        Line2D([], [], color=WRONG, linewidth=2, label="found, wrong"),
    ]
    if any(sample.crowds for sample in samples):
        legend += [
            Line2D([], [], color="0.35", linestyle=":", label="crowd, where nothing of its class is judged"),
            Line2D([], [], color=IGNORED, linewidth=2, label="found in a crowd, not judged"),
        ]
    return Pictures(
        quality=quality,
        mistaken=[of_image.surest_wrong(predicted.scores) for _, predicted, of_image in both],
        draw=shown,
        measure=f"F1 at confidence ≥ {confidence:.2f}",
        surest="Found, wrong, and surest: by the confidence of what is wrong",
        legend=legend,
    )


def colour(judged: Judged, index: int) -> str:
    """The colour of a predicted object."""
    return FOUND if index in judged.right else IGNORED if index in judged.ignored else WRONG


def name(axes: Any, label: str, score: float, box: Iterable[float], within: tuple[float, float], ground: str) -> None:
    """Write the predicted class of an object beside its ``box`` x1, y1, x2, y2, on a coloured background.

    Near the upper and right edges of the image, whose size is ``within`` (width, height), the text is placed inside, where it is
    not cut off.
    """
    x1, y1, x2, _ = box
    below, left = y1 < 0.08 * within[1], x1 > 0.6 * within[0]
    sides = {"va": "top" if below else "bottom", "ha": "right" if left else "left"}
    around = {"facecolor": ground, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    text = f"{figures.shortened(label, 14)} {score:.2f}"
    axes.text(x2 if left else x1, y1, text, fontsize=7, bbox=around, clip_on=True, **sides)
