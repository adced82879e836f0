"""Two models on the same images: how far apart they are, and whether the difference is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import comparison, evidence, resampling, slices
from pelagos_pipelines.evaluation.evidence import Evidence
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.classification import Classification

VERSION, EARLIER = "sha256:" + "0" * 64, "sha256:" + "1" * 64


def made_of(right: Sequence[bool], *, groups: int = 0, first: int = 0, **changes: Any) -> Evidence:
    """Evidence of a classifier that gets the images right for which ``right`` is true."""
    samples = [
        replace(
            Sample(f"{number}.png", Path("x"), np.array([number % 2]), np.zeros((0, 4))),
            group=f"haul {number % groups}" if groups else None,
        )
        for number in range(first, first + len(right))
    ]
    found = [
        Classification(9, 9, np.eye(2, dtype=np.float32)[sample.class_ids[0] ^ (not is_right)])
        for sample, is_right in zip(samples, right, strict=True)
    ]
    fields = slices.fields_of(samples)
    made = evidence.collect(Task.CLASSIFICATION, samples, found, ("cod", "haddock"), VERSION, fields)
    return replace(made, **changes)


def answers(count: int, share: float, seed: int = 1) -> list[bool]:
    return [bool(one) for one in np.random.default_rng(seed).random(count) < share]


def test_the_interval_of_a_difference_is_that_of_scipys_paired_bootstrap() -> None:
    ours, theirs = answers(300, 0.85), answers(300, 0.75, seed=2)
    metrics, why = comparison.compare(made_of(ours), made_of(theirs))
    one, other = np.array(ours, float), np.array(theirs, float)

    def difference(mine: Any, their: Any) -> float:
        return float(mine.mean() - their.mean())

    reference = stats.bootstrap(
        (one, other), difference, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=3
    ).confidence_interval
    found = metrics["accuracy"]

    assert why is None
    assert found.value == pytest.approx(one.mean())
    assert found.champion == pytest.approx(other.mean())
    assert found.low == pytest.approx(reference.low, abs=0.01)
    assert found.high == pytest.approx(reference.high, abs=0.01)


def test_a_model_differs_from_itself_by_nothing_at_all() -> None:
    made = made_of(answers(60, 0.7))
    metrics, _ = comparison.compare(made, made)

    for name in ("accuracy", "F1", "precision-weighted"):
        assert (metrics[name].low, metrics[name].high) == (0.0, 0.0)


def test_what_is_hard_for_both_cancels() -> None:
    """Both are wrong on the same images, except for three on which only the champion is wrong."""
    theirs = answers(200, 0.6)
    wrong = [place for place, is_right in enumerate(theirs) if not is_right][:3]
    ours = [is_right or place in wrong for place, is_right in enumerate(theirs)]
    found = comparison.compare(made_of(ours), made_of(theirs))[0]["accuracy"]
    alone, _ = resampling.intervals([made_of(ours)])

    assert found.low is not None
    assert found.high is not None
    assert found.low >= 0
    assert found.high - found.low < (alone["accuracy"].high - alone["accuracy"].low) / 3


def test_it_is_the_same_at_every_run_and_the_other_way_round() -> None:
    ours, theirs = made_of(answers(80, 0.8)), made_of(answers(80, 0.7, seed=2))
    once, again = comparison.compare(ours, theirs), comparison.compare(ours, theirs)
    back = comparison.compare(theirs, ours)[0]["accuracy"]

    assert once == again
    assert once[0]["accuracy"].low == pytest.approx(-(back.high or 0))
    assert once[0]["accuracy"].high == pytest.approx(-(back.low or 0))


def test_groups_are_drawn_and_of_a_few_nobody_can_tell() -> None:
    few = comparison.compare(made_of(answers(80, 0.8), groups=4), made_of(answers(80, 0.7), groups=4))

    assert few[1] == "there are 4 different values of group, and an interval needs 5"
    assert few[0]["accuracy"].value is not None
    assert few[0]["accuracy"].low is None


@pytest.mark.parametrize(
    ("other", "want"),
    [
        ({"task": Task.DETECTION}, "its task is Detection, and not Classification"),
        (
            {"labels": ("cod", "hake")},
            "it tells other classes apart; have it judged on this version of the Dataset by pelagos evaluate",
        ),
        (
            {"test": "sha256:other", "version": EARLIER},
            "it was tested on other images, those of sha256:111111111111: have it judged",
        ),
        (
            {"test": "sha256:other"},
            "it was tested on other images, an earlier preparation of it: have it judged on this version",
        ),
        ({"images": ("a.png",)}, "it was tested on other images"),
    ],
)
def test_models_that_were_asked_other_things_are_not_compared(other: dict[str, Any], want: str) -> None:
    ours = made_of(answers(20, 0.8))
    why = comparison.why_not(ours, replace(made_of(answers(20, 0.7)), **other))

    assert why is not None
    assert why.startswith(want)
    assert comparison.why_not(ours, made_of(answers(20, 0.7))) is None


def test_the_same_images_in_another_version_of_the_dataset_are_the_same() -> None:
    assert comparison.why_not(made_of(answers(20, 0.8)), made_of(answers(20, 0.7), version=EARLIER)) is None
