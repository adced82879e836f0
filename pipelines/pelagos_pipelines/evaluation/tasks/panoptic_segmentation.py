"""Evaluation of panoptic segmentation: panoptic quality of classes, of things and of stuff; figures with segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import drawn_truth, examples, figures, overlays, panoptic, pixels
from pelagos_pipelines.evaluation.counting import areas
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.detection import Judged
from pelagos_pipelines.evaluation.examples import Pictures
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.tasks.strategy import Strategy, by_class
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.panoptic_segmentation import Segments

METRICS = {"PQ": "pq", "SQ": "sq", "RQ": "rq"}
TABLES = {"segments": areas.SEGMENTS, "stuff": areas.STUFF}


class PanopticSegmentation(Strategy):
    """Implements `Strategy`, which documents its methods, for the evaluation of panoptic segmentation."""

    task = Task.PANOPTIC_SEGMENTATION
    tables = TABLES
    confidence = Thresholds().confidence

    @override
    def measure(
        self, samples: Sequence[Sample], found: Sequence[Segments], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """The metrics of evaluation.panoptic against evaluation.drawn_truth; a figure of the confusion of pixels."""
        counted = panoptic.Counted.none(len(labels))
        confusion: Any = np.zeros((len(labels) + 1,) * 2, np.int64)
        quality, mistaken = [], []
        stuff = stuff_of(samples)
        for sample, predicted in zip(samples, found, strict=True):
            true = _truth(sample, predicted, stuff)
            numbers = predicted.segments.pixels
            pairs, ignored = counted.add((true.pixels, true.class_ids), (numbers, predicted.class_ids), true.crowds)
            judged = Judged({guess for _, guess in pairs}, ignored)
            quality.append(judged.f1(len(true.class_ids) - true.crowds, len(predicted.class_ids)))
            mistaken.append(judged.surest_wrong(predicted.scores))
            confusion += pixels.confusion(true.classes, _classes(predicted, numbers), len(labels))
        scores = counted.scores()
        names = [*labels, figures.BACKGROUND]
        figures.confusion(confusion, names, "Confusion on the test split", "pixels", folder)

        def draw(axes: Any, index: int) -> None:
            axes.imshow(_overlaid(samples[index], found[index], stuff))
            axes.set_title(f"{examples.named(samples[index].name)}  RQ {quality[index]:.2f}", fontsize=8)

        shown = Pictures(
            quality=quality,
            mistaken=mistaken,
            draw=draw,
            measure="recognition quality",
            surest="Segments that are wrong, and surest: by their score",
            legend=overlays.legend(labels),
        )
        examples.sheets(shown, folder)
        metrics = by_class({name: getattr(scores, attribute) for name, attribute in METRICS.items()}, labels)
        means = {of_test(name): scores.mean(attribute) for name, attribute in METRICS.items()}
        is_stuff = np.isin(np.arange(len(labels)), list(stuff))
        kinds = {
            of_test(f"{name}-{kind}"): scores.mean(attribute, chosen)
            for kind, chosen in (("things", ~is_stuff), ("stuff", is_stuff))
            for name, attribute in METRICS.items()
        }
        return means | metrics | kinds

    @override
    def evidence(self, samples: Sequence[Sample], found: Sequence[Segments], labels: Sequence[str]) -> dict[str, Table]:
        """The tables of evaluation.counting.areas."""
        stuff, counted = stuff_of(samples), []
        for sample, predicted in zip(samples, found, strict=True):
            true, one = _truth(sample, predicted, stuff), panoptic.Counted.none(len(labels))
            one.add((true.pixels, true.class_ids), (predicted.segments.pixels, predicted.class_ids), true.crowds)
            counted.append(one)
        return {"segments": areas.segments(counted), "stuff": {"class": np.array(sorted(stuff), "<i4")}}

    @override
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """The function of evaluation.counting.areas that computes metrics."""
        return areas.counter_of_segments(tables["segments"], tables["stuff"], images, classes)


def stuff_of(samples: Sequence[Sample]) -> frozenset[int]:
    """The class ids of stuff: classes with an annotation that is marked as such."""
    return frozenset(
        int(class_id)
        for sample in samples
        for shape, class_id in zip(sample.shapes, sample.class_ids, strict=True)
        if drawn_truth.is_stuff(shape)
    )


def _truth(sample: Sample, predicted: Segments, stuff: frozenset[int]) -> drawn_truth.Drawn:
    drawn = drawn_truth.segments(sample.shapes, sample.class_ids, (predicted.width, predicted.height), stuff)
    return drawn_truth.with_crowds(drawn, sample.crowds, sample.crowd_ids) if sample.crowds else drawn


def _classes(predicted: Segments, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    return np.concatenate(([0], predicted.class_ids + 1))[numbers]


def _overlaid(sample: Sample, predicted: Segments, stuff: frozenset[int]) -> object:
    numbers = predicted.segments.pixels
    # Crowds are not true segments, so their outlines are not drawn.
    true = _truth(replace(sample, crowds=()), predicted, stuff)
    return overlays.overlaid(sample.pixels(), numbers, _classes(predicted, numbers), true.pixels)


STRATEGY = PanopticSegmentation()
