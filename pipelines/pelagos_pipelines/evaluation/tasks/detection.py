"""Evaluation of detection: average precision and related metrics; figures with boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.patches import Polygon
from typing_extensions import override

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import (
    crowding,
    detection,
    doubts,
    examples,
    figures,
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
from pelagos_pipelines.evaluation.matching import BOXES, Places
from pelagos_pipelines.evaluation.object_pictures import Draw
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.evaluation.shares import mean
from pelagos_pipelines.evaluation.tasks.strategy import Strategy, by_class, measured
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

PRECISION = {"mAP50": "map50", "mAP75": "map75", "mAP50-95": "map50_95"}
"""Names of average precision at the IoU thresholds, and the attributes of `detection.Scores`."""
TABLES = {"found": objects.FOUND, "true": objects.TRUE}


class Detection(Strategy):
    """Implements `Strategy`, which documents its methods, for the evaluation of detection."""

    task: Task = Task.DETECTION
    places: Places = BOXES
    things = "boxes"
    tables: Mapping[str, Mapping[str, str]] = TABLES
    claimed = "detections"

    @override
    def measure(
        self, samples: Sequence[Sample], found: Sequence[Detections], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """The metrics of evaluation.detection; figures of the confusion matrix, and of precision over recall."""
        of = matching.objects(samples, found, self.places)
        scores = detection.of_objects(of, len(labels))
        confidence = scores.confidence if math.isfinite(scores.confidence) else Thresholds().confidence
        confusion = detection.confusion(of, len(labels), confidence)
        note = f"confidence ≥ {confidence:.2f}, IoU ≥ 0.50"
        figures.confusion(
            confusion, [*labels, figures.BACKGROUND], f"Confusion on the test split\n{note}", self.things, folder
        )
        draw_curves(scores, labels, "IoU ≥ 0.50", folder)
        shown = object_pictures.pictures(samples, found, of, confidence, self._drawing(labels), "place")
        examples.sheets(shown, folder)
        of_boxes = {name: share for name, share in scores.shares.items() if name != "Dice"}
        return {of_test("confidence"): scores.confidence} | precise(scores, labels) | measured(of_boxes, labels)

    @override
    def evidence(
        self, samples: Sequence[Sample], found: Sequence[Detections], labels: Sequence[str]
    ) -> dict[str, Table]:
        """The tables of evaluation.counting.objects."""
        return {"found": objects.found(matching.objects(samples, found, self.places)), "true": objects.true(samples)}

    @override
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """The function of evaluation.counting.objects that computes metrics."""
        count = objects.counter(tables["found"], tables["true"], images, classes)
        return lambda weights: {name: each for name, each in count(weights).items() if not name.startswith("Dice")}

    @override
    def without_faint(self, predicted: Detections) -> Detections:
        """The part of a prediction that evaluation.doubts uses."""
        return doubts.without_faint(predicted)

    @override
    def doubtful(self, samples: Sequence[Sample], found: Sequence[Detections], labels: Sequence[str]) -> list[Doubt]:
        """The doubts of evaluation.doubts about objects."""
        return doubts.of_objects(samples, found, len(labels), self.places)

    @override
    def claims(self, samples: Sequence[Sample], found: Sequence[Detections], classes: int) -> Claims:
        """The claims: all detected objects."""
        return object_claims.claims(matching.objects(samples, found, self.places), len(samples), classes)

    @override
    def limits(
        self, truth: GroundTruth, found: Sequence[Detections], metrics: Mapping[str, float | None], most: int
    ) -> list[str]:
        """The warnings of evaluation.crowding, for predictions above the confidence at which the metrics hold."""
        confidence = metrics.get(of_test("confidence")) or Thresholds().confidence
        return crowding.warnings(truth, truth.samples("test"), found, confidence, most)

    def _drawing(self, labels: Sequence[str]) -> Draw:
        """A function that draws true objects dashed, crowds dotted, and predictions with their class."""

        def draw(axes: Any, sample: Sample, found: Detections, judged: Judged) -> None:
            axes.imshow(sample.pixels()[..., ::-1])
            for places, style in ((self.places.true(sample), "--"), (self.places.crowds(sample), ":")):
                for place in places:
                    # White on black is visible on bright and dark backgrounds.
                    _outline(axes, self.places.outline(place), "black", linewidth=2.4)
                    _outline(axes, self.places.outline(place), TRUTH, linewidth=1.3, linestyle=style)
            for index, place in enumerate(self.places.found(found)):
                colour, label = object_pictures.colour(judged, index), labels[found.class_ids[index]]
                _outline(axes, self.places.outline(place), colour, linewidth=1.8)
                within = (found.width, found.height)
                object_pictures.name(axes, label, found.scores[index], self.places.around(place), within, colour)

        return draw


def draw_curves(scores: detection.Scores, labels: Sequence[str], condition: str, folder: Path) -> None:
    """Draw precision over recall, and F1, precision and recall over confidence."""
    curves = {label: (detection.RECALLS, curve) for label, curve in zip(labels, scores.curves, strict=True)}
    figures.precision_recall(curves, dict(zip(labels, scores.map50, strict=True)), condition, folder)
    f1 = dict(zip(labels, scores.by_confidence["F1"].by_class.T, strict=True))
    means = {name: share.macro for name, share in scores.by_confidence.items()}
    figures.by_confidence(detection.CONFIDENCES, f1, means, scores.confidence, condition, folder)


def precise(scores: detection.Scores, labels: Sequence[str], prefix: str = "") -> dict[str, float]:
    """Average precision by class and as a mean, by their names, which begin with ``prefix``."""
    values = {f"{prefix}{name}": getattr(scores, attribute) for name, attribute in PRECISION.items()}
    return {of_test(name): mean(each) for name, each in values.items()} | by_class(values, labels)


def _outline(axes: Any, points: npt.NDArray[Any], colour: str, **look: Any) -> None:
    axes.add_patch(Polygon(points, fill=False, edgecolor=colour, **look))


STRATEGY = Detection()
