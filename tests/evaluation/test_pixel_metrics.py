"""Metrics of pixels and segments equal their published definitions, written out here; undefined values are left out."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import TASKS, Task
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.evaluation import drawn_truth, panoptic, pixels, report
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.maps import NumberMap
from pelagos_pipelines.serving.predictions import Prediction
from pelagos_pipelines.serving.tasks.panoptic_segmentation import Segments
from pelagos_pipelines.serving.tasks.semantic_segmentation import ClassMap

CLASSES = 4
LABELS = ("cod", "$x_1$ & <b>", "sand", "never seen")


def random_maps(count: int, seed: int) -> list[tuple[Any, Any]]:
    """Pairs of similar class maps; the last class is never true."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        true = cv2.resize(generator.integers(0, CLASSES, (4, 5)).astype(np.uint8), (50, 40), interpolation=0)
        noise = generator.random(true.shape) < 0.3
        found = np.where(noise, generator.integers(0, CLASSES + 1, true.shape), true)
        pairs.append((true.astype(int), found))
    return pairs


def test_metrics_of_classes_are_those_of_the_definitions() -> None:
    pairs = random_maps(3, 0)
    scores = pixels.score(np.sum([pixels.confusion(true, found, CLASSES) for true, found in pairs], axis=0))
    true, found = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))

    assert scores.accuracy == pytest.approx((true == found).mean(), abs=1e-6)
    for index in range(CLASSES - 1):
        is_true, is_found = true == index + 1, found == index + 1
        both = (is_true & is_found).sum()
        want = {
            "IoU": both / (is_true | is_found).sum(),
            "Dice": 2 * both / (is_true.sum() + is_found.sum()),
            "precision": both / is_found.sum(),
            "recall": both / is_true.sum(),
        }
        for metric, value in want.items():
            assert scores.shares[metric].by_class[index] == pytest.approx(value, abs=1e-6)
    for share in scores.shares.values():
        assert np.isnan(share.by_class[-1]), "it has no true pixel"
        assert share.macro == pytest.approx(np.mean(share.by_class[:-1]))


def random_segments(seed: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """True and found segments of an image, some with an IoU of more than one half."""
    generator = np.random.default_rng(seed)
    corners, labels = generator.integers(0, 30, (7, 2)), generator.integers(0, CLASSES - 1, 7)
    others = np.where(generator.random(7) < 0.8, labels, generator.integers(0, CLASSES - 1, 7))
    sides = []
    for shift, named in ((0, labels), (2, others)):
        numbers: Any = np.zeros((40, 50), int)
        for number, (x, y) in enumerate(corners, start=1):
            numbers[y + shift : y + shift + 12, x + shift : x + shift + 15] = number
        kept = np.unique(numbers)[1:]
        sides.append((np.searchsorted(np.concatenate(([0], kept)), numbers), named[kept - 1]))
    return sides[0], sides[1]


def published(images: Iterable[tuple[tuple[Any, Any], tuple[Any, Any]]], label: int) -> tuple[float, float, float]:
    """PQ, SQ and RQ of a class by equation (1) of the paper, pair by pair."""
    overlaps, true_positives, false_positives, false_negatives = 0.0, 0, 0, 0
    for (true_map, true_ids), (found_map, found_ids) in images:
        truths = {number: true_map == number for number, one in enumerate(true_ids, 1) if one == label}
        founds = {number: found_map == number for number, one in enumerate(found_ids, 1) if one == label}
        matched: set[int] = set()
        for truth in truths.values():
            for number, found in founds.items():
                iou = (truth & found).sum() / (truth | found).sum()
                if iou > 0.5:
                    overlaps, true_positives = overlaps + iou, true_positives + 1
                    matched.add(number)
        false_negatives += len(truths) - len(matched)
        false_positives += len(founds) - len(matched)
    rq = true_positives / (true_positives + false_positives / 2 + false_negatives / 2)
    sq = overlaps / true_positives if true_positives else float("nan")
    return (sq * rq if true_positives else 0.0), sq, rq


def test_panoptic_quality_is_that_of_the_paper() -> None:
    images = [random_segments(seed) for seed in range(6)]
    scores = panoptic.score(images, CLASSES)

    for label in range(CLASSES - 1):
        found = scores.pq[label], scores.sq[label], scores.rq[label]
        assert found == pytest.approx(published(images, label), abs=1e-6, nan_ok=True)
    assert (scores.pq[:-1] > 0.1).all(), "there are pairs"
    assert np.isnan([scores.pq[-1], scores.sq[-1], scores.rq[-1]]).all(), "it has no true segment"
    assert scores.mean("pq") == pytest.approx(np.nanmean(scores.pq))


def published_with_crowds(truth: tuple[Any, Any], found: tuple[Any, Any], crowds: int, label: int) -> tuple[int, ...]:
    """Matched, missed and wrong segments of an image, counted as panopticapi does."""
    (true_map, true_ids), (found_map, found_ids) = truth, found
    is_crowd = [number > len(true_ids) - crowds for number in range(1, len(true_ids) + 1)]
    matched_truths, matched, wrong = set[int](), set[int](), 0
    for one, (number, crowd) in enumerate(zip(true_ids, is_crowd, strict=True), start=1):
        for other, guess in enumerate(found_ids, start=1):
            if crowd or number != guess or number != label:
                continue
            both, either = (true_map == one) & (found_map == other), (true_map == one) | (found_map == other)
            if both.sum() / either.sum() > 0.5:
                matched_truths.add(one)
                matched.add(other)
    missed = sum(
        number == label and not crowd and one not in matched_truths
        for one, (number, crowd) in enumerate(zip(true_ids, is_crowd, strict=True), start=1)
    )
    for other, guess in enumerate(found_ids, start=1):
        if guess != label or other in matched:
            continue
        inside = sum(
            int(((true_map == one) & (found_map == other)).sum())
            for one, (number, crowd) in enumerate(zip(true_ids, is_crowd, strict=True), start=1)
            if crowd and number == label
        )
        wrong += inside / (found_map == other).sum() <= 0.5
    return len(matched), missed, wrong


def test_segments_in_crowds_are_counted_as_panopticapi_counts_them() -> None:
    ignored_anywhere = 0
    for seed in range(6):
        truth, found = random_segments(seed)
        # The last segments of each image are crowds, at most one per class.
        crowds = 2 if truth[1][-1] != truth[1][-2] else 1
        counted = panoptic.Counted.none(CLASSES)
        pairs, ignored = counted.add(truth, found, crowds)
        ignored_anywhere += len(ignored)
        for label in range(CLASSES):
            want = published_with_crowds(truth, found, crowds, label)
            assert (counted.pairs[label], counted.missed[label], counted.wrong[label]) == want
        assert all(true < len(truth[1]) - crowds for true, _ in pairs)
    assert ignored_anywhere, "there are such segments"


def test_crowds_lie_where_no_object_is_all_of_a_class_in_one() -> None:
    objects = [square("cod", 0, 0, 4)]
    drawn = drawn_truth.segments(objects, np.array([0]), (12, 10))
    crowds = [square("cod", 2, 2, 4), square("cod", 6, 6, 4), square("sand", 0, 0, 4)]
    found = drawn_truth.with_crowds(drawn, crowds, [0, 0, 2])
    assert found.class_ids.tolist() == [0, 0], "the third is covered by the object wholly"
    assert found.crowds == 1
    assert [int((found.pixels == number).sum()) for number in (1, 2)] == [16, 12 + 16]


def test_a_class_of_which_nothing_is_found_has_no_quality_of_pairs() -> None:
    one: Any = np.ones((4, 4), int)
    scores = panoptic.score([((one, [0]), (one * 0, []))], 1)
    assert (scores.pq[0], scores.rq[0]) == (0, 0)
    assert np.isnan(scores.sq[0])
    assert np.isnan(panoptic.score([], 1).mean("pq"))


def square(label: str, x: int, y: int, side: int, **attributes: str) -> Shape:
    inside: Any = np.ones((side, side), bool)
    return masks.of_array(label, inside, (x, y), attributes=attributes)


def test_the_smaller_of_two_annotations_lies_on_top_and_what_none_covers_is_of_no_class() -> None:
    polygon = Shape("cod", Kind.POLYGON, (2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0), (4,))
    small, hidden = square("sand", 4, 4, 3), square("cod", 4, 4, 2)
    drawn = drawn_truth.segments([small, polygon, hidden, square("sand", 4, 4, 2)], np.array([1, 0, 0, 1]), (20, 15))

    assert drawn.classes[3, 3] == 1
    assert drawn.classes[6, 6] == 2
    assert drawn.classes[0, 0] == drawn.classes[14, 19] == 0
    assert sorted(drawn.class_ids.tolist()) == [0, 1, 1], "the hidden one has no pixel"
    joined = drawn_truth.segments([small, square("sand", 10, 10, 3)], np.array([1, 1]), (20, 15), {1})
    assert joined.class_ids.tolist() == [1]
    assert joined.pixels[5, 5] == joined.pixels[11, 11] == 1


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    found = []
    for index in range(3):
        file = tmp_path / f"{index}.png"
        cv2.imwrite(str(file), np.full((40, 60, 3), 60 * index + 40, np.uint8))
        shapes = (
            square(LABELS[0], 5, 5, 12),
            square(LABELS[0], 30, 5, 9),
            square(LABELS[2], 5, 25, 10, isthing="false"),
        )
        found.append(Sample(file.name, file, np.array([0, 0, 2]), np.zeros((0, 4)), shapes=shapes))
    return found


def answers(task: Task, samples: list[Sample], *, finds: bool = True) -> list[Prediction]:
    """Predictions equal to the truth, or predictions of nothing."""
    found: list[Prediction] = []
    for sample in samples:
        drawn = drawn_truth.segments(sample.shapes, sample.class_ids, (60, 40), {2})
        kept = drawn if finds else drawn_truth.Drawn(drawn.pixels * 0, drawn.class_ids[:0])
        if task is Task.SEMANTIC_SEGMENTATION:
            found.append(ClassMap(60, 40, NumberMap.of(kept.classes)))
            continue
        ids = kept.class_ids.astype(np.int32)
        scores: Any = np.full(len(ids), 0.9, np.float32)
        things = tuple(label != 2 for label in ids)
        found.append(Segments(60, 40, NumberMap.of(kept.pixels), scores, ids, things))
    return found


def pictures(folder: Path) -> set[str]:
    assert all(min(cv2.imread(str(path)).shape[:2]) > 300 for path in folder.glob("*.png"))
    return {path.name for path in folder.glob("*.png")}


TASKS_OF_PIXELS = (Task.SEMANTIC_SEGMENTATION, Task.PANOPTIC_SEGMENTATION)


@pytest.mark.parametrize("task", TASKS_OF_PIXELS)
def test_a_report_has_the_metrics_of_the_contract_and_figures(
    task: Task, samples: list[Sample], tmp_path: Path
) -> None:
    evaluation = report.evaluate(samples, answers(task, samples), LABELS, tmp_path / "figures")

    description = TASKS[task]
    whole = {name for name in evaluation.metrics if name.count("/") == 1}
    assert whole == {of_test(metric) for metric in (*description.metrics, *description.overall)}
    assert evaluation.metrics[of_test(description.primary_metric)] == 1
    assert evaluation.metrics[of_test(description.primary_metric, LABELS[0])] == 1
    absent = {of_test(metric, label) for metric in description.metrics for label in (LABELS[1], LABELS[3])}
    assert {name for name, value in evaluation.metrics.items() if value is None} == absent
    assert pictures(tmp_path / "figures") == {"confusion-matrix.png", "examples.png"}


@pytest.mark.parametrize("task", TASKS_OF_PIXELS)
def test_what_is_taken_for_another_class_has_a_sheet_of_its_own(
    task: Task, samples: list[Sample], tmp_path: Path
) -> None:
    others = [replace(one, class_ids=np.where(one.class_ids == 0, 1, one.class_ids)) for one in samples]

    report.evaluate(samples, answers(task, others), LABELS, tmp_path / "figures")

    drawn = {"confusion-matrix.png", "examples.png", "worst.png", "confident-wrong.png"}
    assert pictures(tmp_path / "figures") == drawn


@pytest.mark.parametrize("task", TASKS_OF_PIXELS)
def test_a_model_that_finds_nothing_is_reported_too(task: Task, samples: list[Sample], tmp_path: Path) -> None:
    metrics = report.evaluate(samples, answers(task, samples, finds=False), LABELS, tmp_path / "figures").metrics
    assert metrics[of_test(TASKS[task].primary_metric)] == 0
    if task is Task.PANOPTIC_SEGMENTATION:
        assert metrics["test/SQ"] is None
        assert metrics["test/PQ-stuff"] == metrics["test/PQ-things"] == 0


@pytest.mark.parametrize("finds", [True, False])
@pytest.mark.parametrize("task", TASKS_OF_PIXELS)
def test_a_split_without_annotations_has_no_metrics(
    task: Task, samples: list[Sample], tmp_path: Path, finds: bool
) -> None:
    empty = [replace(one, class_ids=one.class_ids[:0], shapes=()) for one in samples]
    evaluation = report.evaluate(empty, answers(task, samples, finds=finds), LABELS, tmp_path / "figures")
    assert set(evaluation.metrics.values()) == {None}
    assert evaluation.warnings[0].startswith("the test split has no annotation at all")


def test_hundreds_of_shapes_as_large_as_their_image_take_no_memory_each(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [square("sand", place, 0, 500 - place) for place in range(100)]
    want = drawn_truth.segments(shapes, np.arange(100), (500, 500))
    monkeypatch.setattr(drawn_truth, "KEPT", 2**20)
    tracemalloc.start()
    try:
        found = drawn_truth.segments(shapes, np.arange(100), (500, 500))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert np.array_equal(found.pixels, want.pixels)
    assert most < 2**23
