"""Evaluation of instance segmentation: average precision of masks and boxes, and related metrics; figures with masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from typing_extensions import override

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
    object_pictures,
)
from pelagos_pipelines.evaluation.calibration import Claims
from pelagos_pipelines.evaluation.counting import objects
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.detection import Judged
from pelagos_pipelines.evaluation.doubts import Doubt
from pelagos_pipelines.evaluation.examples import TRUTH
from pelagos_pipelines.evaluation.object_pictures import Draw
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.evaluation.tasks.detection import PRECISION, draw_curves, precise
from pelagos_pipelines.evaluation.tasks.strategy import Strategy, measured
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.instance_segmentation import Instances

COVER = 0.4
"""Opacity of an object's colour: the image below stays visible."""
LONGEST = 900
"""Longer side in pixels of an image in a figure."""
NAMED = 40
"""Most objects of an image with their class written beside them, the best ones."""
TABLES = {"found": objects.FOUND, "boxes": objects.FOUND, "true": objects.TRUE}


class InstanceSegmentation(Strategy):
    """Implements `Strategy`, which documents its methods, for the evaluation of instance segmentation."""

    task = Task.INSTANCE_SEGMENTATION
    tables = TABLES
    claimed = "objects"

    @override
    def measure(
        self, samples: Sequence[Sample], found: Sequence[Instances], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """The metrics of evaluation.detection: by the IoU of masks, and of boxes for the metrics named so."""
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
        examples.sheets(object_pictures.pictures(samples, found, of, confidence, _drawing(labels), "mask"), folder)
        whole = {of_test("confidence"): scores.confidence}
        return whole | precise(scores, labels) | precise(of_boxes, labels, "box-") | measured(scores.shares, labels)

    @override
    def evidence(
        self, samples: Sequence[Sample], found: Sequence[Instances], labels: Sequence[str]
    ) -> dict[str, Table]:
        """The tables of evaluation.counting.objects for masks, and for the boxes around them."""
        return {
            "found": objects.found(matching.objects(samples, found, instances.places_of(samples, found))),
            "boxes": objects.found(matching.objects(samples, found)),
            "true": objects.true(samples),
        }

    @override
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """The function of evaluation.counting.objects that computes metrics."""
        of_masks, of_boxes = (
            objects.counter(tables[name], tables["true"], images, classes) for name in ("found", "boxes")
        )

        def count(weights: npt.NDArray[np.int32]) -> dict[str, Any]:
            boxes = of_boxes(weights)
            return of_masks(weights) | {f"box-{name}": boxes[name] for name in PRECISION}

        return count

    @override
    def without_faint(self, predicted: Any) -> Any:
        """The part of a prediction that evaluation.doubts uses."""
        return doubts.without_faint(predicted)

    @override
    def doubtful(self, samples: Sequence[Sample], found: Sequence[Any], labels: Sequence[str]) -> list[Doubt]:
        """The doubts of evaluation.doubts about objects, compared by their boxes."""
        return doubts.of_objects(samples, found, len(labels))

    @override
    def claims(self, samples: Sequence[Sample], found: Sequence[Any], classes: int) -> Claims:
        """The claims: all detected objects, matched by the IoU of masks."""
        of = matching.objects(samples, found, instances.places_of(samples, found))
        return object_claims.claims(of, len(samples), classes)

    @override
    def limits(
        self, truth: GroundTruth, found: Sequence[Any], metrics: Mapping[str, float | None], most: int
    ) -> list[str]:
        """The warnings of evaluation.crowding, also for predictions that were cut by the size limit of masks."""
        confidence = metrics.get(of_test("confidence")) or Thresholds().confidence
        full = [one for one in found if len(one.scores) >= most]
        lines = crowding.warnings(truth, truth.samples("test"), full, confidence, most)
        # Scores descend: if the last kept prediction is above the confidence, others above it may have been cut.
        large = [one for one in found if one.cut and 0 < len(one.scores) < most and one.scores[-1] > confidence]
        if large:
            lines.append(
                f"in {len(large)} of {len(found)} images of the split test masks take more than an answer may hold, and objects"
                f" with a confidence above {confidence:.3f} are left out of the metrics: cut the images into tiles"
                " (spec.preprocessing.tile of the Dataset)"
            )
        return lines


def _drawing(labels: Sequence[str]) -> Draw:
    """A function that draws predictions in colour, true masks outlined dashed, and crowds dotted."""

    def draw(axes: Any, sample: Sample, found: Instances, judged: Judged) -> None:
        pixels = sample.pixels()
        scale = min(1.0, LONGEST / max(pixels.shape[:2]))
        picture = (
            cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels.copy()
        )
        outlines: dict[str, list[Any]] = {}
        # The best objects last, on top of the others.
        for index in reversed(range(len(found.masks))):
            colour = object_pictures.colour(judged, index)
            outlines.setdefault(colour, []).extend(_covered(picture, found.masks[index], found.size, scale, colour))
        axes.imshow(picture[..., ::-1])
        for colour, lines in outlines.items():
            axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.5))
        for drawn, style in ((sample.shapes, "--"), (sample.crowds, ":")):
            masks = [_reduced(mask, found.size, scale) for mask in instances.masks_of(drawn, found.size)]
            around = [line for mask in masks for line in instances.outlines(mask)]
            # White on black is visible on bright and dark backgrounds.
            axes.add_collection(LineCollection(around, colors="black", linewidths=2.0))
            axes.add_collection(LineCollection(around, colors=TRUTH, linewidths=1.1, linestyles=style))
        for index in range(min(len(found.boxes), NAMED)):
            colour, label = object_pictures.colour(judged, index), labels[found.class_ids[index]]
            within = (picture.shape[1], picture.shape[0])
            object_pictures.name(axes, label, found.scores[index], found.boxes[index] * scale, within, colour)

    return draw


def _covered(picture: npt.NDArray[Any], mask: str, size: tuple[int, int], scale: float, colour: str) -> list[Any]:
    """Tint the pixels of a mask in a reduced picture; returns its outlines there."""
    reduced = _reduced(mask, size, scale)
    left, top, inside = reduced
    part = picture[top : top + inside.shape[0], left : left + inside.shape[1]]
    inside = inside[: part.shape[0], : part.shape[1]]
    shade = np.array([int(colour[place : place + 2], 16) for place in (5, 3, 1)])
    part[inside] = ((1 - COVER) * part[inside] + COVER * shade).astype(np.uint8)
    return instances.outlines(reduced)


def _reduced(mask: str, size: tuple[int, int], scale: float) -> Part:
    """The mask in a reduced picture, with at least one pixel."""
    part = run_lengths.part_of(mask, size)
    height, width = (max(round(side * scale), 1) for side in part.inside.shape)
    inside = cv2.resize(part.inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return Part(int(part.left * scale), int(part.top * scale), inside.astype(bool))


STRATEGY = InstanceSegmentation()
