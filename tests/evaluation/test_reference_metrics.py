"""Figures equal those of reference implementations in rare cases: nothing true, nothing found, ties, thousands of objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from evaluation.test_detection_metrics import CLASSES, cocos, make_found, make_sample
from pelagos_contract.tasks import AVERAGES, TASKS, Task, averaged
from pelagos_pipelines.evaluation import detection, pixels
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.detection import Detections

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def make_images(seed: int, images: int, most: int) -> tuple[list[Sample], list[Detections]]:
    """Boxes with small integer sides and scores with one digit, so that overlaps and scores tie. The last class is never true."""
    generator = np.random.default_rng(seed)
    samples, found = [], []
    for _ in range(images):
        sides = []
        for count in generator.integers(0, most + 1, 2):
            corners = generator.integers(0, 4, (count, 2))
            sides.append(np.concatenate((corners, corners + generator.integers(0, 4, (count, 2))), axis=1))
        scores = np.sort(generator.integers(1, 6, len(sides[1])) / 10)[::-1]
        samples.append(make_sample(sides[0].tolist(), generator.integers(0, CLASSES - 1, len(sides[0])).tolist()))
        found.append(
            make_found(sides[1].tolist(), scores.tolist(), generator.integers(0, CLASSES, len(scores)).tolist())
        )
    return samples, found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 12))
def test_average_precision_is_that_of_coco_where_overlaps_and_scores_tie(seed: int, images: int, most: int) -> None:
    samples, found = make_images(seed, images, most)
    want = cocos(samples, found)
    got = detection.score(samples, found, CLASSES)
    for ours, theirs in ((got.map50, want[0]), (got.map75, want[5]), (got.map50_95, want)):
        means = theirs.reshape(-1, CLASSES).mean(axis=0)
        np.testing.assert_allclose(ours, np.where(means < 0, np.nan, means), rtol=0, atol=1e-9)


def test_average_precision_is_that_of_coco_for_3000_objects_in_an_image() -> None:
    generator, classes = np.random.default_rng(0), 30  # the evaluator's own matching is slow for many of one class
    corners = generator.uniform(0, 1500, (3000, 2))
    boxes = np.concatenate((corners, corners + generator.uniform(10, 60, (3000, 2))), axis=1)
    moved = np.sort((boxes + generator.normal(0, 3, boxes.shape)).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    ids, scores = generator.integers(0, classes, 3000), np.sort(generator.random(3000).round(2))[::-1]
    samples = [make_sample(boxes.tolist(), ids.tolist())]
    found = [make_found(moved.tolist(), scores.tolist(), ids.tolist())]
    want = cocos(samples, found, classes)
    got = detection.score(samples, found, classes)
    assert (got.map50 > 0.5).all()
    np.testing.assert_allclose(got.curves, want[0].T, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.map50_95, want.mean(axis=(0, 1)), rtol=0, atol=1e-9)


def test_averages_over_classes_of_pixels_are_those_of_scikit_learn() -> None:
    """Class 4 is never true, class 3 never found, and many pixels belong to no class."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 5000)
    found = np.where(generator.random(5000) < 0.6, truth, generator.integers(0, 5, 5000))
    found[found == 3] = 4
    scores = pixels.score(pixels.confusion(truth, found, 4))
    references: dict[str, Any] = {
        "IoU": sklearn.jaccard_score,
        "Dice": sklearn.f1_score,
        "precision": sklearn.precision_score,
        "recall": sklearn.recall_score,
        "F1": sklearn.f1_score,
    }
    for name, reference in references.items():
        undefined: Any = {} if name == "IoU" else {"zero_division": np.nan}
        for kind in ("macro", *AVERAGES):
            labels = [1, 2, 3, 4] if kind == "micro" else [1, 2, 3]
            want = reference(truth, found, labels=labels, average=kind, **undefined)
            assert getattr(scores.shares[name], kind) == pytest.approx(want, abs=1e-6), (name, kind)


def rows_of(title: str) -> list[list[str]]:
    """The cells of the first table below a heading of the page."""
    below = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in below.splitlines() if line.startswith(("| `", "| mean"))]
    return [[cell.strip() for cell in row] for row in rows]


def names_in(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def test_the_page_has_the_metrics_of_every_task() -> None:
    told = {names_in(row[0])[0]: [names_in(cell) for cell in row[1:]] for row in rows_of("Which there are")}
    assert told.keys() == {task.value for task in Task}
    for task, (metrics, averages, overall) in told.items():
        described = TASKS[Task(task)]
        assert metrics == described.metrics
        assert {*averaged(*averages), *overall} == {*described.overall}


def test_the_page_has_a_formula_for_every_metric() -> None:
    explained = [name for row in rows_of("Formulas") for name in names_in(row[0])]
    for described in TASKS.values():
        for metric in (*described.metrics, *described.overall):
            plain = re.sub(f"-({'|'.join(AVERAGES)})$", "", metric)
            known = plain in explained or (plain.startswith("box-mAP") and "box-mAP…" in explained)
            assert known or (plain[2:] in {"-things", "-stuff"} and "PQ-things" in explained), metric
