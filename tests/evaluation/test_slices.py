"""Slices of the test split are measured as if each were the whole split; the worst is reported, but never one without a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from evaluation.test_resampling import LABELS, answers, made_of
from evaluation.test_resampling import make_samples as make_images
from pelagos_contract import metrics as names
from pelagos_contract.capture import SLICE_FIELDS
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Interval, Slice, SlicedField
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation import classification, evidence, fields, slice_figure, slices
from pelagos_pipelines.evaluation.evidence import Evidence
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.slices import Sliced

CAPTURES = (
    Capture("azores", "dive-1", "ROV", "2024-05-31T23:30:00-10:00", 9.9, 38.6, -28.1),
    Capture("madeira", "dive-2", "ROV", "2024-06-01", 7000.0, -0.5, 180.0),
    Capture(latitude=90.0),
    None,
)
EXPECTED = {
    "site": ("azores", "madeira", None, None),
    "deployment": ("dive-1", "dive-2", None, None),
    "platform": ("ROV", "ROV", None, None),
    "day": ("2024-05-31", "2024-06-01", None, None),
    "month": ("05", "06", None, None),
    "hour": ("23", None, None, None),
    "depthBand": ("0 to 10 m", "6000 m and deeper", None, None),
    "positionBand": ("38° N, 29° W", "1° S, 179° E", None, None),
    "group": ("a", "a", None, None),
}


def make_samples() -> list[Sample]:
    return [
        Sample(f"{n}.png", Path("x"), np.zeros(1, int), np.zeros((0, 4)), group="a" if n < 2 else None, capture=capture)
        for n, capture in enumerate(CAPTURES)
    ]


def test_every_field_has_a_value_where_it_is_known() -> None:
    assert {field: fields.values(make_samples(), field) for field in SLICE_FIELDS} == EXPECTED


def test_fields_that_no_image_has_are_not_known() -> None:
    assert fields.known(make_samples()) == list(SLICE_FIELDS)
    assert fields.known(make_samples()[2:]) == []


SITES = ("azores", "madeira", "azores", "faial")


def of_sites(sites: Sequence[str | None], right: Sequence[bool]) -> Evidence:
    return made_of(make_images(len(right), site=sites), right)


def figures_of(found: Sliced, metric: str = "accuracy") -> dict[str | None, float | None]:
    (field,) = found.fields
    return {one.value: found.metrics[names.of_slice(field.field, one.value, metric)] for one in field.slices}


def test_a_slice_has_the_metrics_of_its_images() -> None:
    right = answers(40)
    found = slices.measured([of_sites(SITES, right)], ["site"])
    for site in {*SITES}:
        chosen = [n for n in range(40) if SITES[n % 4] == site]
        truth: Any = np.array([n % 2 for n in chosen])
        guess: Any = np.array([(n % 2) ^ (not right[n]) for n in chosen])
        scores = classification.score(truth, guess, len(LABELS))
        assert found.metrics[f"slice/site/{site}/accuracy"] == pytest.approx(scores.accuracy, abs=1e-9)
        assert found.metrics[f"slice/site/{site}/F1"] == pytest.approx(scores.shares["F1"].macro, abs=1e-9)
    (field,) = found.fields
    assert {one.value: (one.images, one.objects) for one in field.slices} == {
        "azores": (20, 20),
        "faial": (10, 10),
        "madeira": (10, 10),
    }
    figures = {site: value for site, value in figures_of(found).items() if value is not None}
    assert field.worst == min(figures, key=lambda site: figures[site])
    assert found.metrics["worst/site/accuracy"] == min(figures.values())
    assert found.intervals.keys() == {f"slice/site/{site}/accuracy" for site in SITES}
    assert found.warnings == []


def test_within_a_slice_what_is_drawn_is_what_parts_it() -> None:
    images = make_images(40, site=["a", "b"], deployment=[f"d{number}" for number in range(20)])
    (field,) = slices.measured([made_of(images, answers(40))], ["site"]).fields
    assert {(one.by, one.groups) for one in field.slices} == {("deployment", 10)}


def test_a_site_with_a_single_deployment_has_no_interval_as_one_with_a_few_has_none() -> None:
    deployments = [f"d{number if number % 3 else 0}" for number in range(60)]
    evidence = made_of(make_images(60, site=["a", "b", "c"], deployment=deployments), answers(60))

    found = slices.measured([evidence], ["site", "deployment"])

    sites = {one.value: (one.by, one.groups) for one in found.fields[0].slices}
    assert sites == {"a": ("deployment", 1), "b": ("deployment", 20), "c": ("deployment", 20)}
    assert [name for name in ("a", "b", "c") if f"slice/site/{name}/accuracy" in found.intervals] == ["b", "c"]
    assert "slice/deployment/d0/accuracy" in found.intervals, "that is of its images, and of no other deployment"


def test_images_of_which_the_field_is_not_known_are_a_slice_and_never_the_worst() -> None:
    right = [n % 4 != 3 and n % 8 != 0 for n in range(40)]
    found = slices.measured([of_sites(["azores", "madeira", "faial", None], right)], ["site"])
    assert figures_of(found)[None] == found.metrics["slice/site/:unknown/accuracy"] == 0
    assert found.metrics["worst/site/accuracy"] == found.metrics["slice/site/azores/accuracy"] == 0.5
    assert found.fields[0].worst == "azores"
    (warning,) = found.warnings
    assert warning.startswith("site is not known of 10 images of the test split, which are a slice of their own: with ")
    assert warning.endswith("accuracy 0.000 it is worse than the worst slice, which has 0.500")


def test_a_slice_of_one_image_is_measured_and_has_no_interval() -> None:
    sites = ["azores"] * 9 + ["madeira"]
    found = slices.measured([of_sites(sites, [True] * 9 + [False])], ["site"])
    assert figures_of(found) == {"azores": 1.0, "madeira": 0.0}
    assert found.fields[0].worst == "madeira"
    assert "slice/site/madeira/accuracy" not in found.intervals
    assert "slice/site/azores/accuracy" in found.intervals
    assert found.warnings == [
        "slices of one image: site madeira; their metrics say next to nothing, and have no interval"
    ]


def test_of_several_models_the_worst_slice_is_that_with_the_worst_mean() -> None:
    """Each model is bad at another site. The mean of each model's worst value would describe no slice."""
    first, second = ([n % 2 == side for n in range(20)] for side in (0, 1))
    models = [of_sites(["a", "b"], first), of_sites(["a", "b"], second)]
    found = slices.measured(models, ["site"])
    assert figures_of(found) == {"a": 0.5, "b": 0.5}
    assert found.metrics["worst/site/accuracy"] == 0.5


def test_the_worst_error_is_the_highest_and_settings_have_no_worst() -> None:
    each = [Slice(value=value, images=9, objects=9, by="image", groups=9) for value in ("a", "b", None)]
    metrics = {
        names.of_slice("site", value, metric): figure
        for metric in ("ECE", "confidence", "F1")
        for value, figure in (("a", 0.1), ("b", 0.2), (None, 0.9))
    }
    metrics[names.of_slice("site", "a", "F1")] = None  # type: ignore[assignment]
    assert slices.worst_of(metrics, "site", each) == {"worst/site/ECE": 0.2, "worst/site/F1": 0.2}


def test_a_part_of_evidence_is_evidence_of_these_images() -> None:
    right = answers(12)
    whole, part = of_sites(SITES, right), of_sites(SITES, right).part([1, 5, 9])
    assert (part.images, part.fields["site"]) == (("1.png", "5.png", "9.png"), ("madeira",) * 3)
    weights: Any = np.zeros((1, 12), int)
    weights[0, [1, 5, 9]] = 1
    ones: Any = np.ones((1, 3), int)
    assert evidence.counted(part, ones)["accuracy"] == evidence.counted(whole, weights)["accuracy"]


def test_what_cannot_be_measured_is_refused_with_what_there_is() -> None:
    images = make_images(4, site=["a", "b"], time=["2024-05-31"])
    with pytest.raises(RefusedError) as refused:
        fields.require(images, ["site", "depthBand"])
    failure = refused.value.failure
    assert (failure.reason, failure.field) == (Reason.SLICES_IMPOSSIBLE, "spec.evaluation.slices")
    assert failure.message == (
        "spec.evaluation.slices names depthBand, which no image of the test split has; fields that they have: site, day, month"
    )
    with pytest.raises(RefusedError, match="they have: none: the Dataset has no spec"):
        fields.require(make_images(4), ["site"])
    many = make_images(101, site=[f"s{number}" for number in range(101)])
    with pytest.raises(
        RefusedError, match="names site, which has 101 values in the test split; at most 100 are measured"
    ):
        fields.require(many, ["site"])
    fields.require(many[:100], ["site"])


def test_the_figure_shows_slices_and_how_sure_they_are(tmp_path: Path) -> None:
    sites = [f"site {number}" for number in range(40)] + [None, "$x_1$ & <b>"]
    found = slices.measured([of_sites(sites, answers(420, 0.7))], ["site"])
    rows = slice_figure.rows(found.metrics, found.intervals, found.fields)
    whole = slice_figure.Bar("all images", 420, 0.7, Interval(low=0.66, high=0.74))
    slice_figure.draw("accuracy", whole, rows, tmp_path)
    height, width = cv2.imread(str(tmp_path / "slices.png")).shape[:2]
    assert min(height, width) > 300

    first, *_, last = rows["site"]
    assert first.colour == slice_figure.WORST
    assert first.value == found.metrics["worst/site/accuracy"]
    assert first.value is not None
    assert last.value is not None
    assert first.value < last.value
    slice_figure.draw("accuracy", whole, {}, tmp_path)
    assert not list(tmp_path.iterdir()), "without slices there is none"


def test_a_slice_without_objects_has_no_bar_and_stands_last() -> None:
    fields = [
        SlicedField(
            field="site",
            metric="mAP50",
            worst="b",
            slices=[Slice(value=value, images=3, objects=0, by="image", groups=3) for value in ("a", "b", None)],
        )
    ]
    metrics = {names.of_slice("site", "a", "mAP50"): None, names.of_slice("site", "b", "mAP50"): 0.5}
    metrics[names.of_slice("site", None, "mAP50")] = 0.4
    assert [bar.words for bar in slice_figure.rows(metrics, {}, fields)["site"]] == ["not known", "b", "a"]
