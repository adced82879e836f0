"""The result of evaluating a model: metrics by name, and figures. Called by the step evaluate with predictions.

Independent of training frameworks: predictions are those of serving.predictions, and their task decides what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.evaluation import figures, tasks
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.predictions import Prediction


@dataclass(frozen=True)
class Evaluation:
    """Metrics, ``test/<metric>`` and ``test/<metric>/<class>``; undefined ones are None, never 0.

    ``warnings`` are for readers of the metrics.
    """

    metrics: dict[str, float | None]
    warnings: tuple[str, ...]


def evaluate(samples: Sequence[Sample], found: Sequence[Prediction], labels: Sequence[str], folder: Path) -> Evaluation:
    """Measure the predictions ``found`` on the test split; figures are written to ``folder``.

    Classes without a true annotation in the split have no metrics, and are not part of means.
    """
    strategy = tasks.TASKS.named(found[0].task)
    metrics = strategy.measure(samples, found, labels, folder)
    return Evaluation(
        {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        (*strategy.doubts(labels), *warnings(samples, labels)),
    )


def warnings(samples: Sequence[Sample], labels: Sequence[str]) -> list[str]:
    """Warnings about classes that the test split does not show, and about labels with letters that figures cannot show."""
    shown = {int(class_id) for sample in samples for class_id in sample.class_ids}
    unseen = [label for index, label in enumerate(labels) if index not in shown]
    said = []
    if not shown:
        said.append(
            "the test split has no annotation at all: its metrics are undefined, and no gate on them passes; give it images"
            " that show something (spec.split of the Dataset)"
        )
    elif unseen:
        said.append(
            f"{len(unseen)} of {len(labels)} classes have no annotation in the test split, and no metrics: {format_names(unseen)}"
        )
    if spelt := figures.unwritten(labels):
        said.append(
            f"figures spell letters of {len(spelt)} class names by their numbers, as in \\u6d77, because no font of the machine"
            f" that drew them has these: {format_names(spelt)}; a font such as Noto Sans CJK where steps run has them"
        )
    return said
