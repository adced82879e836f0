"""Instance segmentation in evaluation: average precision of masks and of boxes, and what comes with it; figures with masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from pelagos_contract import run_lengths
from pelagos_contract.metrics import of_test
from pelagos_contract.run_lengths import Part
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import (
    crowding,
    detection,
    doubts,
    examples,
    figures,
    instances,
    matching,
    object_claims,
)
from pelagos_pipelines.evaluation.calibration import Claims
from pelagos_pipelines.evaluation.counting import objects
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.doubts import Doubt
from pelagos_pipelines.evaluation.examples import FOUND, TRUTH, WRONG, Pictures
from pelagos_pipelines.evaluation.matching import Objects
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.evaluation.tasks.detection import PRECISION, draw_curves, f1, precise, surest_wrong
from pelagos_pipelines.evaluation.tasks.strategy import Strategy, measured
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.instance_segmentation import Instances

COVER = 0.4
"""How much of an object its colour covers: what is below stays visible."""
LONGEST = 900
"""Pixels of the longer side of an image in a figure."""
NAMED = 40
"""Objects of an image whose classes are written beside them, the best."""
TABLES = {"found": objects.FOUND, "boxes": objects.FOUND, "true": objects.TRUE}


class InstanceSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.INSTANCE_SEGMENTATION
    tables = TABLES
    claimed = "objects"

    def measure(
        self, samples: Sequence[Sample], found: Sequence[Instances], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """See evaluation.detection: by the overlap of masks, and of boxes for the metrics that say so."""
        places = instances.places_of(samples, found)
        of = matching.objects(samples, found, places)
        scores, of_boxes = detection.of_objects(of, len(labels)), detection.score(samples, found, len(labels))
        confidence = scores.confidence if math.isfinite(scores.confidence) else Thresholds().confidence
        confusion = detection.confusion(of, len(labels), confidence)
        note = f"confidence ≥ {confidence:.2f}, IoU of masks ≥ 0.50"
        figures.confusion(
            confusion, [*labels, figures.BACKGROUND], f"Confusion on the test split\n{note}", "objects", folder
        )
        draw_curves(scores, labels, "IoU of masks ≥ 0.50", folder)
        examples.sheets(pictures(samples, found, labels, confidence, of), folder)
        whole = {of_test("confidence"): scores.confidence}
        return whole | precise(scores, labels) | precise(of_boxes, labels, "box-") | measured(scores.shares, labels)

    def evidence(
        self, samples: Sequence[Sample], found: Sequence[Instances], labels: Sequence[str]
    ) -> dict[str, Table]:
        """See evaluation.counting.objects: of masks, and of the boxes around them."""
        return {
            "found": objects.found(matching.objects(samples, found, instances.places_of(samples, found))),
            "boxes": objects.found(matching.objects(samples, found)),
            "true": objects.true(samples),
        }

    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """See evaluation.counting.objects."""
        of_masks, of_boxes = (
            objects.counter(tables[name], tables["true"], images, classes) for name in ("found", "boxes")
        )

        def count(weights: Any) -> dict[str, Any]:
            boxes = of_boxes(weights)
            return of_masks(weights) | {f"box-{name}": boxes[name] for name in PRECISION}

        return count

    def without_faint(self, predicted: Any) -> Any:
        """See evaluation.doubts."""
        return doubts.without_faint(predicted)

    def doubtful(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> list[Doubt]:
        """See evaluation.doubts; by boxes."""
        return doubts.of_objects(samples, found, len(labels))

    def claims(self, samples: Sequence[Sample], found: Sequence[Any], classes: int) -> Claims:
        """The objects that are found, by the overlap of masks."""
        of = matching.objects(samples, found, instances.places_of(samples, found))
        return object_claims.claims(of, len(samples), classes)

    def limits(
        self, truth: GroundTruth, found: Sequence[Any], metrics: Mapping[str, float | None], most: int
    ) -> list[str]:
        """See evaluation.crowding; above the confidence where the metrics hold. Likewise of what masks may take together."""
        confidence = metrics.get(of_test("confidence")) or Thresholds().confidence
        full = [one for one in found if len(one.scores) >= most]
        lines = crowding.warnings(truth, truth.samples("test"), full, confidence, most)
        # Scores descend: when the last of those that are kept is a clear one, clear ones may have been cut.
        large = [one for one in found if one.cut and 0 < len(one.scores) < most and one.scores[-1] > confidence]
        if large:
            lines.append(
                f"in {len(large)} of {len(found)} images of the split test masks take more than an answer may hold, and objects"
                f" with a confidence above {confidence:.3f} are left out of the metrics: cut the images into tiles"
                " (spec.preprocessing.tile of the Dataset)"
            )
        return lines


def pictures(
    samples: Sequence[Sample], found: Sequence[Instances], labels: Sequence[str], confidence: float, of: Objects
) -> Pictures:
    """True masks outlined dashed, right ones that were found blue, wrong ones orange, at ``confidence``."""
    kept = [one.chosen(one.scores >= confidence) for one in found]
    right = detection.right(of, len(samples), confidence)
    quality = [
        f1(len(matched), len(sample.class_ids) + len(predicted.scores))
        for sample, predicted, matched in zip(samples, kept, right, strict=True)
    ]

    def draw(axes: Any, index: int) -> None:
        _draw(axes, samples[index], kept[index], right[index], labels)
        axes.set_title(f"{examples.named(samples[index].name)}  F1 {quality[index]:.2f}", fontsize=8)

    return Pictures(
        quality=quality,
        mistaken=[surest_wrong(one.scores, matched) for one, matched in zip(kept, right, strict=True)],
        draw=draw,
        measure=f"F1 at confidence ≥ {confidence:.2f}",
        surest="Found, wrong, and surest: by the confidence of what is wrong",
        legend=(
            Line2D([], [], color="0.35", linestyle="--", label="truth"),
            Line2D([], [], color=FOUND, linewidth=2, label="found, class and mask right"),
            Line2D([], [], color=WRONG, linewidth=2, label="found, wrong"),
        ),
    )


def _draw(axes: Any, sample: Sample, found: Instances, right: set[int], labels: Sequence[str]) -> None:
    pixels = sample.pixels()
    scale = min(1.0, LONGEST / max(pixels.shape[:2]))
    picture = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels.copy()
    outlines: dict[str, list[Any]] = {FOUND: [], WRONG: []}
    # The best objects last, on top of the others.
    for index in reversed(range(len(found.masks))):
        colour = FOUND if index in right else WRONG
        outlines[colour] += _covered(picture, found.masks[index], found.size, scale, colour)
    axes.imshow(picture[..., ::-1])
    for colour, lines in outlines.items():
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.5))
    truth = [
        line
        for mask in instances.true_masks(sample, found.size)
        for line in instances.outlines(_reduced(mask, found.size, scale))
    ]
    # Black under white is seen on bright and on dark ground.
    axes.add_collection(LineCollection(truth, colors="black", linewidths=2.0))
    axes.add_collection(LineCollection(truth, colors=TRUTH, linewidths=1.1, linestyles="--"))
    for index in range(min(len(found.boxes), NAMED)):
        x1, y1, x2, _ = found.boxes[index] * scale
        text = f"{figures.shortened(labels[found.class_ids[index]], 14)} {found.scores[index]:.2f}"
        ground = {"facecolor": FOUND if index in right else WRONG, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        # Near the upper and the right edge the text goes inside, where it is not cut off.
        below, left = y1 < 0.08 * picture.shape[0], x1 > 0.6 * picture.shape[1]
        place = {"va": "top" if below else "bottom", "ha": "right" if left else "left"}
        axes.text(x2 if left else x1, y1, text, fontsize=7, bbox=ground, clip_on=True, **place)


def _covered(picture: Any, mask: str, size: tuple[int, int], scale: float, colour: str) -> list[Any]:
    """Put a colour on the pixels of a mask in a picture that was reduced; its outlines there."""
    reduced = _reduced(mask, size, scale)
    left, top, inside = reduced
    part = picture[top : top + inside.shape[0], left : left + inside.shape[1]]
    inside = inside[: part.shape[0], : part.shape[1]]
    shade = np.array([int(colour[place : place + 2], 16) for place in (5, 3, 1)])
    part[inside] = ((1 - COVER) * part[inside] + COVER * shade).astype(np.uint8)
    return instances.outlines(reduced)


def _reduced(mask: str, size: tuple[int, int], scale: float) -> Part:
    """The part of a picture that was reduced in which a mask lies; it has one pixel at least."""
    part = run_lengths.part_of(mask, size)
    height, width = (max(round(side * scale), 1) for side in part.inside.shape)
    inside = cv2.resize(part.inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return Part(int(part.left * scale), int(part.top * scale), inside.astype(bool))


STRATEGY = InstanceSegmentation()
