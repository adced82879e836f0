"""Counting for precision, recall and F1 with a confidence threshold for each class, by the definitions of evaluation.calibration.

Works on the tables of tasks whose predictions have confidences: classification and tasks with objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.calibration import AT_CONFIDENCES
from pelagos_pipelines.evaluation.counting.tables import Sums, Table
from pelagos_pipelines.evaluation.matching import IOUS


def counter(
    tables: Mapping[str, Table], images: int, classes: int, confidences: Sequence[float]
) -> Callable[[Any], dict[str, Any]]:
    """A function of weights that returns the averages by their names; ``confidences`` are the thresholds by class."""
    if "guesses" in tables:
        guesses = tables["guesses"]
        right: Any = guesses["class"] == guesses["guess"]
        said = {"image": guesses["image"], "class": guesses["guess"], "sure": guesses["confidence"], "right": right}
        actual_of = Sums(guesses, None, images, classes)
    else:
        table = tables["found"]
        # A detection in a crowd that matches no object is neither right nor wrong.
        judged = (table["right"] & 1 > 0) | (table["right"] >> len(IOUS) == 0)
        found = {name: values[judged] for name, values in table.items()}
        said = {"image": found["image"], "class": found["class"], "sure": found["score"], "right": found["right"] & 1}
        actual_of = Sums(tables["true"], "count", images, classes)
    passed = said["sure"] > np.asarray(confidences)[said["class"]]
    kept = {name: values[passed] for name, values in said.items()}
    claimed_of, hits_of = Sums(kept, None, images, classes), Sums(kept, "right", images, classes)

    def count(weights: npt.NDArray[Any]) -> dict[str, Any]:
        counts = shares.of_counts(hits_of.of(weights), actual_of.of(weights), claimed_of.of(weights))
        return shares.averages({name: counts[name] for name in AT_CONFIDENCES})

    return count
