"""Counting for classified images, by the definitions of evaluation.classification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import classification, shares
from pelagos_pipelines.evaluation.counting import tables
from pelagos_pipelines.evaluation.counting.tables import Sums, Table

GUESSES = {"image": "<i4", "class": "<i4", "guess": "<i4", "rank": "<i4", "confidence": "<f8", "chance": "<f8"}
"""``rank``: how many classes are more probable than the true one; ``confidence`` and ``chance``: the probabilities of the guess
and of the true class."""


def guesses(truth: npt.NDArray[np.int64], probabilities: npt.NDArray[Any]) -> dict[str, Any]:
    """The table of true classes ``[images]`` and probabilities ``[images, classes]``."""
    images = np.arange(len(truth))
    guess = probabilities.argmax(axis=1)
    chance = probabilities[images, truth]
    columns = {
        "image": images,
        "class": truth,
        "guess": guess,
        # Stable, so that ties are resolved by the first class, as for the guess.
        "rank": np.argsort(np.argsort(-probabilities, axis=1, kind="stable"), axis=1)[images, truth],
        "confidence": probabilities[images, guess],
        "chance": chance,
    }
    return tables.stacked([columns], GUESSES)


def counter(found: Table, images: int, classes: int) -> Callable[[Any], dict[str, Any]]:
    """A function of weights that returns accuracy, loss, top-5 and the averages of `classification.Scores`, by their names."""
    by_guess = {**found, "class": found["guess"], "hit": found["class"] == found["guess"]}
    actual_of, claimed_of = (Sums(each, None, images, classes) for each in (found, by_guess))
    hits_of = Sums(by_guess, "hit", images, classes)
    top_of = Sums({**found, "top": found["rank"] < classification.TOP}, "top", images, classes)
    losses = np.zeros(images)
    np.add.at(losses, found["image"], classification.surprise(found["chance"]))

    def count(weights: npt.NDArray[Any]) -> dict[str, Any]:
        actual, claimed, hits = (each.of(weights) for each in (actual_of, claimed_of, hits_of))
        total = actual.sum(axis=1)
        counts = classification.shares_of(hits, actual, claimed)
        within = top_of.of(weights).sum(axis=1)
        return {
            "accuracy": tables.share(hits.sum(axis=1), total, total > 0),
            "loss": tables.share(weights @ losses, total, total > 0),
            "top5": tables.share(within, total, (total > 0) & (classes > classification.TOP)),
            **shares.averages(counts),
        }

    return count
