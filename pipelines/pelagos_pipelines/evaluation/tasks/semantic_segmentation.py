"""Evaluation of semantic segmentation: IoU, Dice, precision and recall of pixel classes; figures with maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import drawn_truth, examples, figures, overlays, pixels
from pelagos_pipelines.evaluation.counting import areas
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.examples import Pictures
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.tasks.strategy import Strategy, measured
from pelagos_pipelines.serving.tasks.semantic_segmentation import ClassMap

TABLES = {"classes": areas.PIXELS, "whole": areas.WHOLE}


class SemanticSegmentation(Strategy):
    """Implements `Strategy`, which documents its methods, for the evaluation of semantic segmentation."""

    task = Task.SEMANTIC_SEGMENTATION
    tables = TABLES

    @override
    def measure(
        self, samples: Sequence[Sample], found: Sequence[ClassMap], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """The metrics of evaluation.pixels against evaluation.drawn_truth; a figure of the confusion of pixels."""
        total: Any = np.zeros((len(labels) + 1,) * 2, np.int64)
        quality, mistaken = [], []
        for sample, predicted in zip(samples, found, strict=True):
            counts = pixels.confusion(truth(sample, predicted).classes, predicted.classes.pixels, len(labels))
            total += counts
            quality.append(float(counts.diagonal().sum() / counts.sum()))
            other = counts[:-1, :-1].sum() - counts[:-1, :-1].diagonal().sum()
            mistaken.append(float(other / counts.sum()) if other else math.nan)
        scores = pixels.score(total)
        names = [*labels, figures.BACKGROUND]
        figures.confusion(total, names, "Confusion on the test split", "pixels", folder)
        examples.sheets(self._pictures(samples, found, labels, quality, mistaken), folder)
        return measured(scores.shares, labels) | {of_test("pixelAccuracy"): scores.accuracy}

    def _pictures(
        self,
        samples: Sequence[Sample],
        found: Sequence[ClassMap],
        labels: Sequence[str],
        quality: Sequence[float],
        mistaken: Sequence[float],
    ) -> Pictures:
        """Pictures of maps, which have no scores: mistakes are ranked by the share of pixels with a wrong class."""

        def draw(axes: Any, index: int) -> None:
            axes.imshow(_overlaid(samples[index], found[index]))
            axes.set_title(f"{examples.named(samples[index].name)}  {quality[index]:.0%} of pixels right", fontsize=8)

        return Pictures(
            quality=quality,
            mistaken=mistaken,
            draw=draw,
            measure="share of pixels that are right",
            surest="Taken for another class: by the share of such pixels",
            legend=overlays.legend(labels),
        )

    @override
    def evidence(self, samples: Sequence[Sample], found: Sequence[ClassMap], labels: Sequence[str]) -> dict[str, Table]:
        """The tables of evaluation.counting.areas."""
        confusions = [
            pixels.confusion(truth(sample, predicted).classes, predicted.classes.pixels, len(labels))
            for sample, predicted in zip(samples, found, strict=True)
        ]
        of_classes, whole = areas.pixels(confusions)
        return {"classes": of_classes, "whole": whole}

    @override
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """The function of evaluation.counting.areas that computes metrics."""
        return areas.counter_of_pixels(tables["classes"], tables["whole"], images, classes)


def truth(sample: Sample, predicted: ClassMap) -> drawn_truth.Drawn:
    """The ground truth of an image in the resolution of the prediction."""
    return drawn_truth.segments(sample.shapes, sample.class_ids, (predicted.width, predicted.height))


def _overlaid(sample: Sample, predicted: ClassMap) -> object:
    classes = predicted.classes.pixels
    return overlays.overlaid(sample.pixels(), classes, classes, truth(sample, predicted).classes)


STRATEGY = SemanticSegmentation()
