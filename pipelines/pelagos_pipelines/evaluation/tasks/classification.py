"""Evaluation of classification: accuracy, top-5 accuracy, precision, recall and F1; figures with frames around images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import classification, doubts, examples, figures
from pelagos_pipelines.evaluation.calibration import Claims
from pelagos_pipelines.evaluation.counting import classes as counting
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.doubts import Doubt
from pelagos_pipelines.evaluation.examples import Pictures
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.tasks.strategy import Strategy, measured
from pelagos_pipelines.serving.calibration import logarithms
from pelagos_pipelines.serving.tasks.classification import Classification as Found

TABLES = {"guesses": counting.GUESSES}


class Classification(Strategy):
    """Implements `Strategy`, which documents its methods, for the evaluation of classification."""

    task = Task.CLASSIFICATION
    tables = TABLES

    @override
    def measure(
        self, samples: Sequence[Sample], found: Sequence[Found], labels: Sequence[str], folder: Path
    ) -> dict[str, float]:
        """The metrics of evaluation.classification; figures of the confusion matrix, and of precision over recall."""
        truth = np.array([sample.class_ids[0] for sample in samples])
        probabilities = np.stack([prediction.probabilities for prediction in found])
        scores = classification.score(truth, probabilities.argmax(axis=1), len(labels))
        figures.confusion(scores.confusion, labels, "Confusion on the test split", "images", folder)
        curves, areas = {}, {}
        for index, label in enumerate(labels):
            if (truth == index).any():
                precision, recall = classification.precision_recall(truth == index, probabilities[:, index])
                curves[label] = recall, precision
                areas[label] = float(-np.sum(np.diff(recall) * precision[:-1]))
        figures.precision_recall(curves, areas, "one class against the others", folder)
        examples.sheets(pictures(samples, found, labels), folder)
        chances = probabilities[np.arange(len(truth)), truth]
        whole = {of_test("accuracy"): scores.accuracy, of_test("top5"): classification.top5(truth, probabilities)}
        whole[of_test("loss")] = float(classification.surprise(chances).mean())
        return whole | measured(scores.shares, labels)

    @override
    def evidence(self, samples: Sequence[Sample], found: Sequence[Found], labels: Sequence[str]) -> dict[str, Table]:
        """The tables of evaluation.counting.classes."""
        truth = np.array([sample.class_ids[0] for sample in samples])
        return {"guesses": counting.guesses(truth, np.stack([prediction.probabilities for prediction in found]))}

    @override
    def counter(self, tables: Mapping[str, Table], images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
        """The function of evaluation.counting.classes that computes metrics."""
        return counting.counter(tables["guesses"], images, classes)

    @override
    def doubtful(self, samples: Sequence[Sample], found: Sequence[Found], labels: Sequence[str]) -> list[Doubt]:
        """The doubts of evaluation.doubts about classes of images."""
        return doubts.of_classes(samples, found)

    @override
    def claims(self, samples: Sequence[Sample], found: Sequence[Found], classes: int) -> Claims:
        """The claims: the most probable class of each image."""
        probabilities = np.stack([one.probabilities for one in found]) if found else np.zeros((0, classes))
        truth = np.array([sample.class_ids[0] for sample in samples], np.int64)
        claimed = probabilities.argmax(axis=1)
        return Claims(
            images=len(samples),
            logits=logarithms(probabilities),
            claimed=claimed,
            true=truth,
            class_ids=claimed,
            right=claimed == truth,
            objects=np.bincount(truth, minlength=classes),
        )

    @override
    def doubts(self, labels: Sequence[str]) -> list[str]:
        """A warning for a single class, with which there is nothing to distinguish."""
        if len(labels) != 1:
            return []
        line = (
            f"the dataset has the class {labels[0]!r} alone: a classifier that always says so is right, whatever it has learnt;"
            " add images of other classes"
        )
        return [line]


def pictures(samples: Sequence[Sample], found: Sequence[Found], labels: Sequence[str]) -> Pictures:
    """Pictures of images with true and predicted class; an orange frame marks a wrong prediction."""
    truth = [int(sample.class_ids[0]) for sample in samples]
    guesses = [int(item.probabilities.argmax()) for item in found]
    sure = [float(item.probabilities[guess]) for item, guess in zip(found, guesses, strict=True)]

    def draw(axes: Any, index: int) -> None:
        true, guess = truth[index], guesses[index]
        axes.imshow(samples[index].pixels()[..., ::-1])
        verdict = "right" if true == guess else f"wrong, is {figures.shortened(labels[true])}"
        axes.set_title(f"{figures.shortened(labels[guess])} {sure[index]:.2f}\n{verdict}", fontsize=9)
        for spine in axes.spines.values():
            spine.set(visible=True, color=figures.PALETTE[0] if true == guess else examples.WRONG, linewidth=3)

    return Pictures(
        quality=[float(item.probabilities[true]) for item, true in zip(found, truth, strict=True)],
        mistaken=[
            math.nan if true == guess else chance for true, guess, chance in zip(truth, guesses, sure, strict=True)
        ],
        draw=draw,
        measure="probability of the true class",
        surest="Wrong, and surest: by the probability of the class that was said",
    )


STRATEGY = Classification()
