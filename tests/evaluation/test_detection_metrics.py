"""Detection metrics agree with hand-made cases, and with ultralytics' own metrics for the same predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.utils.metrics import ap_per_class, box_iou

from pelagos_pipelines.annotations.shapes import rectangle
from pelagos_pipelines.evaluation import detection, doubts, matching, object_claims
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import mean
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.tasks.detection import Detections

CLASSES = 3


def make_sample(boxes: list[list[float]], class_ids: list[int]) -> Sample:
    return Sample("image", Path("image"), np.array(class_ids, int), np.array(boxes, float).reshape(-1, 4))


def make_found(boxes: list[list[float]], scores: list[float], class_ids: list[int]) -> Detections:
    return Detections(
        640,
        480,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int32),
    )


def test_perfect_predictions_score_one() -> None:
    samples = [make_sample([[0, 0, 10, 10], [20, 20, 40, 60]], [0, 2]), make_sample([], [])]
    found = [make_found([[20, 20, 40, 60], [0, 0, 10, 10]], [0.9, 0.8], [2, 0]), make_found([], [], [])]
    scores = detection.score(samples, found, CLASSES)
    shares = [share.by_class for share in scores.shares.values()]
    for values in (scores.map50, scores.map75, scores.map50_95, *shares):
        assert values.tolist() == pytest.approx([1, math.nan, 1], nan_ok=True), "a class without truth has no metric"


def test_nothing_found_scores_zero() -> None:
    scores = detection.score([make_sample([[0, 0, 10, 10]], [0])], [make_found([], [], [])], CLASSES)
    shares = scores.shares
    assert mean(scores.map50) == shares["recall"].macro == shares["F1"].macro == shares["recall"].micro == 0
    assert math.isnan(shares["IoU"].macro), "no box was matched"
    assert math.isnan(shares["precision"].macro), "nothing is claimed that could be right"


def test_half_found_and_one_invented() -> None:
    samples = [make_sample([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0])]
    found = [make_found([[0, 0, 10, 8], [100, 100, 120, 120]], [0.9, 0.8], [0, 0])]
    scores = detection.score(samples, found, 1)
    assert scores.shares["recall"].macro == 0.5
    assert scores.shares["precision"].macro == 1, "at the confidence with the best F1 the invented box is left out"
    assert 0.8 < scores.confidence <= 0.9
    assert scores.shares["IoU"].macro == pytest.approx(0.8)
    assert mean(scores.map50) == pytest.approx(51 / 101), "precision 1 up to recall 0.5"


def test_a_box_of_another_class_is_a_confusion() -> None:
    samples = [make_sample([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 1])]
    found = [make_found([[0, 0, 10, 9], [200, 200, 220, 220], [0, 0, 9, 9]], [0.9, 0.8, 0.1], [2, 1, 0])]
    matrix = detection.confusion(matching.objects(samples, found), CLASSES, confidence=0.5)
    want: Pixels = np.zeros((4, 4), int)
    want[0, 2] = 1  # class 0 taken for class 2
    want[1, 3] = 1  # class 1 missed
    want[3, 1] = 1  # class 1 found where nothing is
    assert np.array_equal(matrix, want)


def make_noisy(images: int, seed: int) -> tuple[list[Sample], list[Detections]]:
    """Random truth, and predictions that miss, shift, confuse and invent boxes."""
    generator = np.random.default_rng(seed)
    samples, found = [], []
    for _ in range(images):
        count = int(generator.integers(0, 8))
        corners = generator.uniform(0, 400, (count, 2))
        truth = np.concatenate((corners, corners + generator.uniform(20, 120, (count, 2))), axis=1)
        ids = generator.integers(0, CLASSES, count)
        kept = generator.random(count) < 0.85
        moved = truth[kept] + generator.normal(0, 6, (int(kept.sum()), 4))
        guessed = np.where(generator.random(kept.sum()) < 0.9, ids[kept], generator.integers(0, CLASSES, kept.sum()))
        extra = int(generator.integers(0, 4))
        spots = generator.uniform(0, 400, (extra, 2))
        boxes = np.concatenate((moved, np.concatenate((spots, spots + 60), axis=1)))
        scores = np.concatenate((generator.beta(5, 2, len(moved)), generator.beta(2, 5, extra)))
        classes = np.concatenate((guessed, generator.integers(0, CLASSES, extra)))
        order = np.argsort(-scores)
        samples.append(Sample("image", Path("image"), ids, truth))
        found.append(make_found(boxes[order].tolist(), scores[order].tolist(), classes[order].tolist()))
    return samples, found


def with_crowds(samples: list[Sample], seed: int) -> list[Sample]:
    """The same samples with random crowd regions of any class, which may overlap each other and objects."""
    generator = np.random.default_rng(seed)
    crowded = []
    for sample in samples:
        count = int(generator.integers(0, 4))
        ids = generator.integers(0, CLASSES, count).tolist()
        sides = np.concatenate((generator.uniform(0, 350, (count, 2)), generator.uniform(30, 200, (count, 2))), axis=1)
        crowds = [rectangle(str(index), *box) for index, box in zip(ids, sides.tolist(), strict=True)]
        crowded.append(replace(sample, crowds=crowds, crowd_ids=ids))
    return crowded


def reference(samples: list[Sample], found: list[Detections]) -> dict[str, npt.NDArray[Any]]:
    """Metrics of ultralytics, with matches found as by its validator: greedily by IoU within a class, for ten IoU thresholds."""
    right, scores, guessed, truth = [], [], [], []
    for sample, predicted in zip(samples, found, strict=True):
        correct: Pixels = np.zeros((len(predicted.scores), 10), bool)
        overlap = box_iou(torch.tensor(sample.boxes).float(), torch.tensor(predicted.boxes)).numpy()
        overlap *= sample.class_ids[:, None] == predicted.class_ids[None]
        for column, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
            pairs = np.array(np.nonzero(overlap >= threshold)).T
            if len(pairs):
                pairs = pairs[overlap[pairs[:, 0], pairs[:, 1]].argsort()[::-1]]
                pairs = pairs[np.unique(pairs[:, 1], return_index=True)[1]]
                pairs = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
                correct[pairs[:, 1], column] = True
        right.append(correct)
        scores.append(predicted.scores)
        guessed.append(predicted.class_ids)
        truth.append(sample.class_ids)
    joined = [np.concatenate(parts) for parts in (right, scores, guessed, truth)]
    _, _, precision, recall, f1, ap, *_ = ap_per_class(*joined)
    return {"precision": precision, "recall": recall, "f1": f1, "map50": ap[:, 0], "map50_95": ap.mean(axis=1)}


def cocos(samples: list[Sample], found: list[Detections], classes: int = CLASSES) -> Pixels:
    """Precision by COCO's reference evaluator, with its own matching."""
    boxes = [
        (image, index, box)
        for image, sample in enumerate(samples)
        for index, box in zip(sample.class_ids, sample.boxes, strict=True)
    ]
    guesses = [
        (image, index, box, score)
        for image, item in enumerate(found)
        for index, box, score in zip(item.class_ids, item.boxes, item.scores, strict=True)
    ]

    crowds = [
        (image, index, np.add(np.array(crowd.sides), (0, 0, *crowd.coordinates[:2])))
        for image, sample in enumerate(samples)
        for index, crowd in zip(sample.crowd_ids, sample.crowds, strict=True)
    ]

    def row(number: int, image: int, index: int, box: Pixels) -> dict[str, object]:
        x1, y1, x2, y2 = (float(value) for value in box)
        sides = [x1, y1, x2 - x1, y2 - y1]
        told = {"image_id": image, "category_id": int(index), "bbox": sides, "area": sides[2] * sides[3]}
        return told | {"id": number, "iscrowd": 0}

    truth, predicted = COCO(), COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(len(samples))],
        "categories": [{"id": index} for index in range(classes)],
        "annotations": [
            row(number, *box) | {"iscrowd": int(number > len(boxes))}
            for number, box in enumerate([*boxes, *crowds], start=1)
        ],
    }
    predicted.dataset = truth.dataset | {
        "annotations": [
            row(number, image, index, box) | {"score": float(score)}
            for number, (image, index, box, score) in enumerate(guesses, start=1)
        ]
    }
    truth.createIndex()
    predicted.createIndex()
    evaluator = COCOeval(truth, predicted, "bbox")
    evaluator.params.maxDets, evaluator.params.areaRng, evaluator.params.areaRngLbl = [10_000], [[-1e10, 1e10]], ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"][:, :, :, 0, 0])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("crowds", [False, True])
def test_average_precision_is_that_of_cocos_reference_evaluator(seed: int, crowds: bool) -> None:
    samples, found = make_noisy(60, seed)
    if crowds:
        without = cocos(samples, found)
        samples = with_crowds(samples, seed)
        assert (cocos(samples, found) != without).any(), "these crowds hold something"
    want = cocos(samples, found)
    got = detection.score(samples, found, CLASSES)
    np.testing.assert_array_equal(got.curves, want[0].T)
    np.testing.assert_allclose(got.map50_95, want.mean(axis=(0, 1)), rtol=0, atol=1e-12)


def test_what_lies_in_a_crowd_of_its_class_is_neither_right_nor_wrong() -> None:
    crowd = rectangle("", 50, 0, 50, 100)
    sample = replace(make_sample([[0, 0, 10, 10]], [0]), crowds=[crowd], crowd_ids=[0])
    # Right; in the crowd; in it, but of another class; less than half of it in the crowd.
    boxes: list[list[float]] = [[0, 0, 10, 10], [60, 10, 80, 20], [60, 30, 80, 40], [0, 80, 60, 90]]
    found = make_found(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0])
    of = matching.objects([sample], [found])

    assert of.inside.tolist() == [0, 1, 0, pytest.approx(1 / 6)]
    (judged,) = detection.judged(of, 1, 0.5)
    assert (judged.right, judged.ignored) == ({0}, {1})
    assert judged.surest_wrong(found.scores) == pytest.approx(0.7)
    assert judged.f1(1, 4) == pytest.approx(2 / 4)
    matrix = detection.confusion(of, CLASSES, 0.5)
    assert (matrix[0, 0], matrix[CLASSES].tolist()) == (1, [1, 1, 0, 0])
    assert detection.of_objects(of, CLASSES).shares["precision"].by_class[0] == 1, "at the best confidence"
    (claimed,) = [object_claims.claims(of, 1, CLASSES)]
    assert claimed.class_ids.tolist() == [0, 1, 0]


def test_no_label_is_missed_in_a_crowd() -> None:
    sample = make_sample([[0, 0, 10, 10], [200, 0, 210, 10]], [0, 0])
    found = make_found([[0, 0, 10, 10], [200, 0, 210, 10], [60, 10, 80, 20]], [0.8, 0.8, 0.9], [0, 0, 0])
    (missed,) = doubts.of_objects([sample], [found], CLASSES)
    assert missed.kind is doubts.Kind.NOT_ANNOTATED
    crowded = replace(sample, crowds=[rectangle("", 50, 0, 50, 100)], crowd_ids=[0])
    assert doubts.of_objects([crowded], [found], CLASSES) == []


def of_tables(tables: Sequence[Any], scores: Sequence[Any], true: Any, found: Any) -> matching.Objects:
    """Images of which only the overlaps of their objects are known."""
    samples = [Sample("", Path(), labels, np.zeros((len(labels), 4))) for labels in true]
    predicted = [
        Detections(1, 1, np.zeros((len(labels), 4), np.float32), each, labels)
        for labels, each in zip(found, scores, strict=True)
    ]
    places = replace(matching.BOXES, overlaps=lambda *_: iter(tables), pairs=None)
    return matching.objects(samples, predicted, places)


def test_a_detection_gets_the_nearest_box_that_is_left_and_of_equal_ones_the_last() -> None:
    table = np.array([[0.9, 0.6, 0.6], [0.8, 0.6, 0.6], [0.7, 0.0, 0.6]])
    none: Any = np.zeros(3, int)
    of = of_tables([table], [np.array([0.9, 0.8, 0.7])], [none], [none])
    pairs = matching.assigned(of)
    true = np.where(pairs >= 0, of.true[pairs], -1)
    assert (true[0].tolist(), true[3].tolist()) == ([0, 2, -1], [0, -1, -1])


@pytest.mark.parametrize("most", [3, 1_000_000])
@pytest.mark.parametrize("whole", [True, False])
def test_pairs_of_boxes_are_those_of_their_tables(monkeypatch: pytest.MonkeyPatch, most: int, whole: bool) -> None:
    """Boxes that touch, have no area, lie far outside, or are equal; many overlap by exactly one half."""
    monkeypatch.setattr(matching, "_AT_ONCE", most)
    generator = np.random.default_rng(most)
    founds: list[Any] = []
    truths: list[Any] = []
    for number in range(20):
        for sides, count in ((founds, 30 * (number % 5)), (truths, 20 * (number % 7))):
            corners = generator.uniform(0, 2, (count, 2)) - 1000.0 * (number % 3)
            boxes = np.concatenate((corners, corners + generator.integers(0, 4, (count, 2))), axis=1)
            sides.append(boxes.round() if whole else boxes.astype(np.float32))
    tables = replace(matching.BOXES, pairs=None)
    got, want = matching.box_pairs(founds, truths), matching._pairs(founds, truths, tables)
    by_object = np.lexsort((got[1], got[0]))
    assert len(want[0]) > 50
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one[by_object], other)


def one_after_the_other(table: Any, scores: Any, same: Any, least: float) -> Any:
    """COCO's matching, written out: the index of the true object for each found one, or -1."""
    given, taken = np.full(len(scores), -1), set[int]()
    for row in np.argsort(-scores, kind="stable"):
        best = least
        for column in range(table.shape[1]):
            if same[row, column] and column not in taken and table[row, column] >= best:
                best, given[row] = table[row, column], column
        taken.add(int(given[row]))
    return given


def by_overlap(table: Any, chosen: Any) -> set[tuple[int, int]]:
    """Pairs of a true and a found object, matched by descending overlap."""
    pairs: set[tuple[int, int]] = set()
    places = [(-table[row, column], column, row) for row, column in np.argwhere(table >= 0.5) if chosen[row]]
    for _, column, row in sorted(places):
        if all(column != one and row != other for one, other in pairs):
            pairs.add((column, row))
    return pairs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 14), st.integers(0, 14))
def test_images_matched_at_once_are_as_if_objects_chose_one_after_the_other(
    seed: int, images: int, most_found: int, most_true: int
) -> None:
    """Overlaps and scores have few values, so that most of them tie."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, (most_found + 1, most_true + 1), (images, 2))
    tables = [generator.integers(8, 21, shape) / 20 for shape in counts]
    scores = [generator.integers(1, 6, count) / 5 for count in counts[:, 0]]
    found, true = ([generator.integers(0, 2, count) for count in counts[:, side]] for side in (0, 1))
    of = of_tables(tables, scores, true, found)
    for least, pairs in zip(matching.IOUS, matching.assigned(of), strict=True):
        columns = np.where(pairs >= 0, np.append(of.true, 0)[pairs], -1)
        starts = np.cumsum(counts[:, 1]) - counts[:, 1]
        want = []
        for start, table, each, one, other in zip(starts, tables, scores, found, true, strict=True):
            alone = one_after_the_other(table, each, one[:, None] == other[None], least)
            want += np.where(alone >= 0, alone + start, -1).tolist()
        assert columns.tolist() == want
    nearest = set(zip(*(each.tolist() for each in matching.nearest(of, of.scores > 0.3)), strict=True))
    starts_of = np.cumsum(counts, axis=0) - counts
    expected = {
        (column + starts_of[number, 1], row + starts_of[number, 0])
        for number, table in enumerate(tables)
        for column, row in by_overlap(table, scores[number] > 0.3)
    }
    assert nearest == expected


def test_all_objects_of_a_crowded_image_count() -> None:
    corners = np.stack(np.divmod(np.arange(600), 30), axis=1) * 16.0
    boxes = np.concatenate((corners, corners + 10), axis=1)
    sample = Sample("crowd", Path("crowd"), np.zeros(600, int), boxes)
    found = make_found(boxes.tolist(), np.linspace(0.9, 0.3, 600).tolist(), [0] * 600)
    assert mean(detection.score([sample], [found], 1).map50) == pytest.approx(1)
    assert detection.confusion(matching.objects([sample], [found]), 1, 0.3)[0, 0] == 600


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_metrics_are_those_of_ultralytics(seed: int) -> None:
    """Interpolation and smoothing differ slightly, hence the tolerances."""
    samples, found = make_noisy(120, seed)
    got, want = detection.score(samples, found, CLASSES), reference(samples, found)
    np.testing.assert_allclose(got.map50, want["map50"], atol=0.015)
    np.testing.assert_allclose(got.map50_95, want["map50_95"], atol=0.015)
    np.testing.assert_allclose(got.shares["F1"].macro, want["f1"].mean(), atol=0.01)
    for metric in ("precision", "recall"):
        np.testing.assert_allclose(got.shares[metric].by_class, want[metric], atol=0.06)
