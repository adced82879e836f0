"""Intervals are those of the bootstrap over groups: as wide as the groups warrant, reproducible, and absent for few groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation import evidence, resampling, slices
from pelagos_pipelines.evaluation.evidence import Evidence
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.classification import Classification

LABELS = ("cod", "haddock")
VERSION = "sha256:" + "0" * 64


def make_samples(count: int, group: Sequence[str | None] = (), **captured: Sequence[str | None]) -> list[Sample]:
    """Images of both classes in turn; the given values of groups and capture fields repeat."""
    found = []
    for number in range(count):
        fields: Any = {name: values[number % len(values)] for name, values in captured.items()}
        sample = Sample(f"{number}.png", Path("x"), np.array([number % 2]), np.zeros((0, 4)))
        found.append(replace(sample, group=group[number % len(group)] if group else None, capture=Capture(**fields)))
    return found


def made_of(samples: Sequence[Sample], right: Sequence[bool]) -> Evidence:
    """Evidence of a classifier that gets the images right for which ``right`` is true."""
    found = [
        Classification(9, 9, np.eye(2, dtype=np.float32)[sample.class_ids[0] ^ (not is_right)])
        for sample, is_right in zip(samples, right, strict=True)
    ]
    fields = slices.fields_of(samples)
    return evidence.collect(Task.CLASSIFICATION, samples, found, LABELS, VERSION, fields)


def answers(count: int, share: float = 0.8) -> list[bool]:
    return [bool(one) for one in np.random.default_rng(1).random(count) < share]


def test_an_interval_is_that_of_scipy() -> None:
    right = answers(400)
    found, told = resampling.intervals([made_of(make_samples(400), right)])
    values = np.array(right, float)
    reference = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=3).confidence_interval

    assert (told.by, told.groups, told.samples, told.why) == ("image", 400, 2000, None)
    assert found["accuracy"].low == pytest.approx(reference.low, abs=0.006)
    assert found["accuracy"].high == pytest.approx(reference.high, abs=0.006)


def test_an_interval_covers_what_is_true_as_often_as_it_says() -> None:
    covered, samples = 0, make_samples(100)
    for seed in range(200):
        right = (np.random.default_rng(seed).random(100) < 0.7).tolist()
        made = made_of(samples, right)
        found = resampling.interval(resampling.resampled([made], resampling.units_of(made), 400, seed)["accuracy"])
        assert found is not None
        covered += found.low <= 0.7 <= found.high
    assert 180 <= covered <= 199, "of 200, 95 % of which are 190"


def test_over_groups_an_interval_covers_what_one_over_images_does_not() -> None:
    """At 20 sites a model's accuracy varies around 0.8: 20 images of each site are not 400 independent ones."""
    generator, covered = np.random.default_rng(0), {"site": 0, resampling.IMAGE: 0}
    samples = make_samples(400, site=[f"s{number}" for number in range(20)])
    for seed in range(150):
        right = generator.random(400) < np.tile(generator.beta(8, 2, 20), 20)
        made = made_of(samples, right.tolist())
        alone = replace(made, fields={resampling.IMAGE: made.fields[resampling.IMAGE]})
        for one in (made, alone):
            units = resampling.units_of(one)
            found = resampling.interval(resampling.resampled([one], units, 300, seed)["accuracy"])
            assert found is not None
            covered[units.by] += found.low <= 0.8 <= found.high
    assert covered["site"] / 150 > 0.88
    assert covered[resampling.IMAGE] / 150 < 0.84


def test_images_of_a_group_are_drawn_together() -> None:
    """Each of 40 groups has ten images with equal outcomes, which together say no more than 40 images."""
    one_each, groups = answers(40), [str(number) for number in range(40)]
    tenfold = [right for right in one_each for _ in range(10)]
    grouped = make_samples(400, [group for group in groups for _ in range(10)])
    (alone, _), (together, told), (apart, _) = (
        resampling.intervals([made_of(samples, right)])
        for samples, right in (
            (make_samples(40), one_each),
            (grouped, tenfold),
            (make_samples(400), tenfold),
        )
    )
    found = {"alone": alone, "together": together, "apart": apart}
    width = {name: one["accuracy"].high - one["accuracy"].low for name, one in found.items()}

    assert (told.by, told.groups) == ("group", 40)
    assert width["together"] == pytest.approx(width["alone"], rel=0.1)
    assert width["apart"] == pytest.approx(width["alone"] / math.sqrt(10), rel=0.15)


@pytest.mark.parametrize(
    ("fields", "by", "groups"),
    [
        ({"group": ["a", "b", None], "site": ["x", "y"]}, "group", 2 + 4),
        ({"group": ["a"], "site": ["x", "y"]}, "site", 2),
        ({"site": ["x"], "deployment": ["d1", "d2", "d3"]}, "deployment", 3),
        ({"site": ["x", None], "deployment": ["d1", "d2", "d3"]}, "deployment", 3),
        ({"site": ["x", None]}, "image", 12),
        ({}, "image", 12),
    ],
    ids=[
        "images without a group are alone",
        "one group",
        "one site",
        "not every site is known",
        "nothing whole",
        "nothing",
    ],
)
def test_what_is_drawn_follows_from_what_is_known(fields: dict[str, Any], by: str, groups: int) -> None:
    units = resampling.units_of(made_of(make_samples(12, **fields), answers(12)))
    assert (units.by, units.count) == (by, groups)


def test_tiles_of_an_image_are_drawn_together() -> None:
    tiles = [replace(one, source=f"{number // 4}.png") for number, one in enumerate(make_samples(12))]
    units = resampling.units_of(made_of(tiles, answers(12)))
    assert (units.by, units.count) == ("image", 3)


def test_of_a_few_groups_there_is_no_interval_and_it_is_said_why() -> None:
    found, told = resampling.intervals([made_of(make_samples(40, site=["a", "b", "c", "d"]), answers(40))])
    assert found == {}
    assert told.why == "there are 4 different values of site, and an interval needs 5"
    assert (told.by, told.groups, told.samples) == ("site", 4, 0)


def test_the_same_is_drawn_again_however_many_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = resampling.intervals([made_of(make_samples(50), answers(50))])
    monkeypatch.setattr(evidence, "HELD", 50 * 7)
    again, _ = resampling.intervals([made_of(make_samples(50), answers(50))])
    other, _ = resampling.intervals([made_of(make_samples(50), answers(50))], "site", "a")
    assert first == again
    assert first != other


def test_large_evidence_is_drawn_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "WORK", 50 * 700)
    _, told = resampling.intervals([made_of(make_samples(50), answers(50))])
    assert told.samples == 700
    monkeypatch.setattr(resampling, "WORK", 1)
    _, told = resampling.intervals([made_of(make_samples(50), answers(50))])
    assert told.samples == resampling.FEWEST_SAMPLES


def test_a_metric_that_most_samples_say_nothing_about_has_no_interval() -> None:
    nothing: Any = np.array([0.5] * 90 + [math.nan] * 10)
    assert resampling.interval(nothing) is None
    assert resampling.interval(np.array([0.5] * 96 + [math.nan] * 4)) is not None
    assert resampling.interval(np.zeros(0)) is None


def test_several_models_are_measured_on_the_same_draws() -> None:
    """Where one model is right the other is wrong, so their mean is the same for any draw."""
    right = answers(50, 0.5)
    samples = make_samples(50)
    models = [made_of(samples, right), made_of(samples, [not one for one in right])]
    found, _ = resampling.intervals(models)
    assert [found["accuracy"].low, found["accuracy"].high] == pytest.approx([0.5, 0.5])
