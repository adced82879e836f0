"""Confidence compared with how often models are right: metrics equal their definitions, and fits use validation alone."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelagos_contract.tasks import TASKS as DESCRIPTIONS
from pelagos_contract.tasks import Task
from pelagos_contract.training import Evaluation
from pelagos_pipelines.evaluation import calibrating, calibration, detection, evidence, matching
from pelagos_pipelines.evaluation.calibration import BINS, Claims
from pelagos_pipelines.evaluation.counting import objects
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.tasks import TASKS
from pelagos_pipelines.serving import calibration as served
from pelagos_pipelines.serving.predictions import Prediction, Scaling
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections

LABELS = ("Acantharia", "Bacillariophyta", "Copepoda")
BOTH = Evaluation(calibration=True, per_class_thresholds=True)


def make_images(count: int, seed: int, heat: float = 2.5) -> tuple[list[Sample], list[Classification]]:
    """Images with classes drawn from the softmax of logits / ``heat``, and a classifier that reports that of the logits."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, len(LABELS))) * 4
    each: Any = (torch.softmax(torch.from_numpy(one), 1).numpy() for one in (logits, logits / heat))
    surer, real = each
    truth = [int(generator.choice(len(LABELS), p=row)) for row in real]
    samples = [Sample(str(n), Path(str(n)), np.array([class_id]), np.zeros((0, 4))) for n, class_id in enumerate(truth)]
    return samples, [Classification(8, 8, row.astype(np.float32)) for row in surer]


def make_scenes(count: int, seed: int) -> tuple[list[Sample], list[Detections]]:
    """Scenes of a very overconfident detector: boxes near objects, and six boxes at random places in each scene."""
    generator, samples, found = np.random.default_rng(seed), [], []
    for number in range(count):
        ids = generator.integers(0, len(LABELS), generator.integers(0, 6))
        corners = generator.uniform(0, 80, (len(ids), 2))
        boxes = np.concatenate((corners, corners + 16), axis=1)
        near = boxes + generator.normal(size=boxes.shape) * 2
        far = generator.uniform(0, 80, (6, 2))
        places = np.concatenate((near, np.concatenate((far, far + 16), axis=1))).astype(np.float32)
        classes = np.concatenate((ids, generator.integers(0, len(LABELS), 6))).astype(np.int32)
        lowest, highest = np.array([0.4] * len(ids) + [0.01] * 6), np.array([1.0] * len(ids) + [0.9] * 6)
        scores: Any = generator.uniform(lowest, highest)
        scores = np.asarray(scores, np.float32)
        order = np.argsort(-scores, kind="stable")
        samples.append(Sample(str(number), Path(str(number)), ids, boxes))
        found.append(Detections(96, 96, places[order], scores[order], classes[order]))
    return samples, found


def claims_of(task: Task, samples: list[Sample], found: Any) -> Claims:
    claims = TASKS.named(task.value).claims(samples, found, len(LABELS))
    assert claims is not None
    return claims


def guo(confidence: Any, right: Any) -> float:
    """Guo et al. 2017, equation 3, with bins (0, 1/15], (1/15, 2/15] and so on, written out."""
    error, total = 0.0, len(confidence)
    for number in range(BINS):
        inside = [
            (sure, hit)
            for sure, hit in zip(confidence, right, strict=True)
            if number / BINS < sure <= (number + 1) / BINS
        ]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            error += len(inside) / total * abs(accuracy - sum(sure for sure, _ in inside) / len(inside))
    return error


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_is_that_of_its_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    confidence, right = generator.uniform(0, 1, 3000), generator.random(3000) < 0.5
    confidence[:5] = 1.0, 0.5, 0.25, 1e-9, 0.7

    assert calibration.reliability(confidence, right).error == pytest.approx(guo(confidence, right), abs=1e-12)


def test_a_confidence_at_the_edge_of_a_bin_is_in_the_lower_one() -> None:
    edges = np.linspace(0, 1, BINS + 1)[1:]

    assert calibration.reliability(edges, np.ones(BINS)).counts.tolist() == [1] * BINS


def test_of_nothing_there_is_no_calibration_error() -> None:
    empty = calibration.reliability(np.zeros(0), np.zeros(0))

    assert math.isnan(empty.error)
    assert empty.document()["error"] is None


def test_the_temperature_is_that_of_the_least_loss_as_torch_finds_it() -> None:
    samples, found = make_images(800, seed=1)
    claims = claims_of(Task.CLASSIFICATION, samples, found)
    logits, truth = torch.from_numpy(claims.logits), torch.from_numpy(claims.true)
    inverse = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits * inverse, truth)
        value.backward()
        return value

    optimizer.step(loss)
    scaling = calibration.scaling(claims)

    assert scaling is not None
    assert scaling.temperature == pytest.approx(1 / inverse.item(), abs=1e-6)
    assert claims.unlikelihood(scaling) == pytest.approx(loss().item(), abs=1e-9)
    assert scaling.temperature == pytest.approx(2.5, rel=0.15), "by which the classifier is too sure"


def test_the_scaling_of_detections_is_that_of_a_logistic_regression() -> None:
    claims = claims_of(Task.DETECTION, *make_scenes(60, seed=2))
    scaling = calibration.scaling(claims)
    assert scaling is not None

    def loss(slope: float, offset: float) -> float:
        told = torch.from_numpy(claims.logits[:, 1]) * slope + offset
        right = torch.from_numpy(claims.right.astype(float))
        return float(torch.nn.functional.binary_cross_entropy_with_logits(told, right))

    least = loss(1 / scaling.temperature, scaling.offset)
    assert claims.unlikelihood(scaling) == pytest.approx(least, abs=1e-12)
    for slope, offset in itertools.product((-1e-3, 0, 1e-3), repeat=2):
        assert loss(1 / scaling.temperature + slope, scaling.offset + offset) >= least


@pytest.mark.parametrize(("task", "make"), [(Task.CLASSIFICATION, make_images), (Task.DETECTION, make_scenes)])
def test_what_is_found_on_validation_makes_scores_on_the_test_split_truer(
    task: Task, make: Any, tmp_path: Path
) -> None:
    strategy, (held, said), (samples, found) = TASKS.named(task.value), make(200, seed=3), make(200, seed=4)
    chosen = calibrating.choose(BOTH, strategy, LABELS, held, said)
    metrics = calibrating.measured(chosen, strategy, samples, found, tmp_path)

    assert metrics["test/ECE"] < metrics["test/ECE-uncalibrated"] / 2  # type: ignore[operator]
    told, least = chosen.told(found), chosen.thresholds
    assert least is not None
    assert least.keys() == set(LABELS)
    # By the definition, from what servers return.
    if task is Task.CLASSIFICATION:
        sure = [float(one.probabilities.max()) for one in told]
        right = [one.probabilities.argmax() == each.class_ids[0] for one, each in zip(told, samples, strict=True)]
        assert metrics["test/ECE"] == pytest.approx(guo(sure, right), abs=1e-6)
        claimed = [
            (int(one.probabilities.argmax()), each.class_ids[0])
            for one, each in zip(told, samples, strict=True)
            if one.probabilities.max() > least[LABELS[one.probabilities.argmax()]]
        ]
        assert metrics["test/precision/Copepoda"] == pytest.approx(
            np.mean([guess == true for guess, true in claimed if guess == 2])
        )
    assert set(json.loads((tmp_path / "calibration.json").read_text())) >= {"scaling", "thresholds", "reliability"}
    assert (tmp_path / "reliability.png").stat().st_size > 10_000


def test_of_detections_the_same_are_right_that_average_precision_matches() -> None:
    samples, found = make_scenes(80, seed=5)
    claims = claims_of(Task.DETECTION, samples, found)
    table = objects.found(matching.objects(samples, found))

    right = table["right"] & 1 == 1  # at the first IoU threshold, 0.50
    for label in range(len(LABELS)):
        ours = np.sort(claims.confidence()[claims.right & (claims.class_ids == label)])
        np.testing.assert_allclose(ours, np.sort(table["score"][right & (table["class"] == label)]), atol=1e-7)
        assert len(ours) > 20
    assert claims.objects.tolist() == [sum((one.class_ids == label).sum() for one in samples) for label in range(3)]


@pytest.mark.parametrize("scaling", [Scaling(2.7, -1.5), Scaling(0.4, 2.0), Scaling(1.0, -4.0)])
def test_no_average_precision_changes_by_calibration(scaling: Scaling) -> None:
    samples, found = make_scenes(60, seed=6)
    before = detection.score(samples, found, len(LABELS))
    after = detection.score(samples, [one.calibrated(scaling) for one in found], len(LABELS))

    for name in ("map50", "map75", "map50_95"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_no_most_probable_class_changes_by_calibration() -> None:
    _, found = make_images(300, seed=7)
    for temperature in (0.05, 0.5, 3.0, 20.0):
        told = [one.calibrated(Scaling(temperature)).probabilities for one in found]
        assert [row.argmax() for row in told] == [one.probabilities.argmax() for one in found]
        np.testing.assert_allclose(np.sum(told, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("score", [0.0, 1.0, 1e-45, 1 - 6e-8])
def test_scores_at_the_ends_stay_numbers(score: float) -> None:
    for scaling in (Scaling(0.05, -20), Scaling(20.0, 20)):
        assert 0 <= served.scaled(np.array([score], np.float32), scaling)[0] <= 1
    assert np.isfinite(served.softened(np.array([score, 1 - score], np.float32), 0.05)).all()


# --- thresholds of classes


def brute(claims: Claims, class_id: int) -> Any:
    """The highest F1 of a class over all thresholds that separate its claims."""
    chosen = claims.class_ids == class_id
    sure, right, best = claims.confidence()[chosen], claims.right[chosen], 0.0
    for least in {0.0, *sure.tolist()}:
        passed = sure >= least
        best = max(best, 2 * right[passed].sum() / (passed.sum() + claims.objects[class_id]))
    return best


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.DETECTION])
@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_of_a_class_has_a_higher_f1(task: Task, seed: int) -> None:
    claims = claims_of(task, *(make_images if task is Task.CLASSIFICATION else make_scenes)(60, seed))
    found = calibration.confidences(claims, claims.confidence(), claims.faintest)
    f1 = calibration.at_confidences(claims, claims.confidence(), [found[label] for label in range(3)])["F1"].by_class

    assert f1.tolist() == pytest.approx([brute(claims, label) for label in range(3)])


def made(sure: list[float], right: list[bool], objects: int) -> Claims:
    """Claims of one class."""
    count = len(sure)
    logits = np.stack((np.zeros(count), served.odds(np.array(sure))), axis=1)
    hits = np.array(right, bool)
    zeros: Any = np.zeros(count, np.int64)
    return Claims(9, logits, zeros + 1, hits.astype(int), zeros, hits, np.array([objects]), 0.05, is_own=True)


def test_of_equally_good_thresholds_the_lowest_is_taken() -> None:
    once = made([0.9, 0.8, 0.7, 0.6, 0.5], [True, True, False, True, False], 4)  # F1 2/5, 2/3, 4/7, 3/4, 2/3
    assert calibration.confidences(once, once.confidence(), 0.05)[0] == pytest.approx(0.55)

    twice = made([0.9, 0.8, 0.7, 0.6], [True, False, False, True], 2)  # F1 2/3, 1/2, 2/5, 2/3
    assert calibration.confidences(twice, twice.confidence(), 0.05)[0] == pytest.approx((0.6 + 0.05) / 2)


def test_claims_that_are_equally_sure_pass_together() -> None:
    claims = made([0.9, 0.9, 0.4], [True, False, True], 2)

    assert calibration.confidences(claims, claims.confidence(), 0.05)[0] == pytest.approx((0.4 + 0.05) / 2)


def test_classes_of_which_validation_shows_nothing_keep_the_general_threshold_and_are_named(tmp_path: Path) -> None:
    samples, found = make_images(200, seed=8)
    kept = [n for n, sample in enumerate(samples) if sample.class_ids[0] != 2]
    held, said = [samples[n] for n in kept], [found[n] for n in kept]
    chosen = calibrating.choose(BOTH, TASKS.named("Classification"), LABELS, held, said)

    assert chosen.thresholds is not None
    assert set(chosen.thresholds) == set(LABELS[:2])
    (note,) = chosen.notes
    assert note.startswith("1 of 3 classes have the general threshold of 0.25")
    assert "Copepoda" in note
    assert calibrating.measured(chosen, TASKS.named("Classification"), samples, found, tmp_path)["test/F1/Copepoda"]


def test_a_class_that_is_not_in_the_test_split_has_no_metrics_at_its_threshold(tmp_path: Path) -> None:
    strategy = TASKS.named("Classification")
    chosen = calibrating.choose(BOTH, strategy, LABELS, *make_images(200, seed=9))
    samples, found = make_images(100, seed=10)
    kept = [n for n, sample in enumerate(samples) if sample.class_ids[0] != 1]
    metrics = calibrating.measured(chosen, strategy, [samples[n] for n in kept], [found[n] for n in kept], tmp_path)

    assert metrics["test/recall/Bacillariophyta"] is None
    known = [metrics[f"test/recall/{label}"] for label in (LABELS[0], LABELS[2])]
    assert metrics["test/recall"] == pytest.approx(np.mean(np.array(known, float)))


# --- what cannot be calibrated


def _alone(count: int) -> tuple[list[Sample], list[Classification]]:
    one: Any = np.ones(1, np.float32)
    samples = [Sample(str(n), Path(str(n)), np.array([0]), np.zeros((0, 4))) for n in range(count)]
    return samples, [Classification(8, 8, one)] * count


def _all_right(count: int) -> tuple[list[Sample], list[Classification]]:
    samples, found = make_images(count, seed=12)
    return [
        replace(s, class_ids=np.array([f.probabilities.argmax()])) for s, f in zip(samples, found, strict=True)
    ], found


def _reversed(count: int) -> tuple[list[Sample], list[Classification]]:
    """Images and a classifier that is wrong the more often, the surer it is."""
    samples, found = make_images(count, seed=12)
    ranks = np.argsort(np.argsort([f.probabilities.max() for f in found]))
    truth = [
        f.probabilities.argmax() if r < count / 4 else f.probabilities.argmin()
        for r, f in zip(ranks, found, strict=True)
    ]
    return [replace(s, class_ids=np.array([t])) for s, t in zip(samples, truth, strict=True)], found


@pytest.mark.parametrize(
    ("labels", "count", "make", "words"),
    [
        (
            LABELS,
            29,
            lambda n: make_images(n, 1),
            "the model says 29 things about the 29 validation images, and 30 are needed",
        ),
        (LABELS, 0, lambda n: ([], []), "the model says 0 things about the 0 validation images"),
        (LABELS[:1], 60, _alone, "the class 'Acantharia' alone"),
        (LABELS, 60, _all_right, "all of 60 answers are right"),
        (LABELS, 60, _reversed, "no temperature from 0.05 to 20.0 fits"),
    ],
)
def test_what_cannot_be_calibrated_is_not_and_says_why(
    labels: tuple[str, ...], count: int, make: Any, words: str, tmp_path: Path
) -> None:
    strategy = TASKS.named("Classification")
    chosen = calibrating.choose(Evaluation(calibration=True), strategy, labels, *make(count))
    test = _alone(40) if len(labels) == 1 else make_images(40, seed=11)
    metrics = calibrating.measured(chosen, strategy, *test, tmp_path)

    assert chosen.scaling is None
    (note,) = chosen.notes
    assert words in note
    assert metrics["test/ECE"] is None
    assert (metrics["test/ECE-uncalibrated"] is None) == (len(labels) == 1)
    assert chosen.told(test[1]) == test[1]


def test_scenes_without_any_detection_are_measured_as_undefined(tmp_path: Path) -> None:
    strategy = TASKS.named("Detection")
    samples, _ = make_scenes(20, seed=13)
    nothing = Detections(96, 96, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    chosen = calibrating.choose(BOTH, strategy, LABELS, samples, [nothing] * 20)
    metrics = calibrating.measured(chosen, strategy, samples, [nothing] * 20, tmp_path)

    assert (chosen.scaling, chosen.thresholds) == (None, {})
    assert "of which none is less sure than 0.05" in chosen.notes[0]
    assert {metrics["test/ECE"], metrics["test/ECE-uncalibrated"], metrics["test/precision"]} == {None}
    assert metrics["test/recall"] == 0


def test_nothing_is_found_where_nothing_was_asked(tmp_path: Path) -> None:
    strategy = TASKS.named("Classification")
    samples, found = make_images(60, seed=14)
    chosen = calibrating.choose(Evaluation(), strategy, LABELS, samples, found)

    assert chosen.document() is None
    assert calibrating.measured(chosen, strategy, samples, found, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", list(Task))
def test_the_tasks_that_can_be_calibrated_are_those_whose_predictions_claim_something(task: Task) -> None:
    from pelagos_pipelines.serving import tasks

    claims = TASKS.named(task.value).claims([], [], 2)

    assert bool(DESCRIPTIONS[task].calibrated) == (claims is not None) == (task.value in tasks.CALIBRATED)
    kinds: list[type[Prediction]] = [Classification, Detections]
    assert all(hasattr(kind, "calibrated") for kind in kinds)


# --- counted again from evidence


@pytest.mark.parametrize(("task", "make"), [(Task.CLASSIFICATION, make_images), (Task.DETECTION, make_scenes)])
def test_intervals_are_of_the_metrics_at_the_thresholds_that_validation_chose(
    task: Task, make: Any, tmp_path: Path
) -> None:
    strategy, (samples, found) = TASKS.named(task.value), make(60, seed=16)
    chosen = calibrating.choose(BOTH, strategy, LABELS, *make(120, seed=15))
    chosen = replace(chosen, thresholds=dict(zip(LABELS, (0.5, 0.6, 0.7), strict=True)))
    metrics = calibrating.measured(chosen, strategy, samples, found, tmp_path)
    told = chosen.told(found)
    kept = evidence.collect(task, samples, told, LABELS, "sha256:1", {}, chosen.confidences)
    evidence.write(kept, tmp_path / "evidence.npz")
    weights = np.stack((np.ones(60, int), np.arange(60) % 3))
    again = evidence.counted(evidence.read(tmp_path / "evidence.npz"), weights)
    doubled = [number for number in range(60) for _ in range(number % 3)]
    other = calibrating.measured(chosen, strategy, [samples[n] for n in doubled], [found[n] for n in doubled], tmp_path)

    for name in ("precision", "recall", "F1", "F1-micro", "F1-weighted"):
        assert again[name].tolist() == pytest.approx([metrics[f"test/{name}"], other[f"test/{name}"]], abs=1e-9)
    unmoved = evidence.counted(evidence.collect(task, samples, told, LABELS, "sha256:1", {}), weights)
    assert unmoved["F1"].tolist() != again["F1"].tolist()


@pytest.mark.parametrize("confidences", [[0.5], [0.5, 0.5, 2], [0.5, 0.5, float("nan")], [0.5, 0.5, True], "0.5", {}])
def test_confidences_of_a_stranger_that_are_none_are_refused(confidences: Any, tmp_path: Path) -> None:
    samples, found = make_images(3, seed=17)
    kept = evidence.collect(Task.CLASSIFICATION, samples, found, LABELS, "sha256:1", {}, confidences)
    evidence.write(kept, tmp_path / "evidence.npz")

    with pytest.raises(evidence.EvidenceError, match="its confidences are not one for each class"):
        evidence.read(tmp_path / "evidence.npz")
