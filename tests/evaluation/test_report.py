"""A report names its metrics as the contract says and leaves readable figures, whatever the classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import TASKS, Task
from pelagos_pipelines.annotations.shapes import rectangle
from pelagos_pipelines.evaluation import examples, figures, report
from pelagos_pipelines.evaluation.detection import Judged
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.tasks import classification
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.serving.tasks.oriented_detection import OrientedDetections

LABELS = ("Noctiluca scintillans", "$x_1$ & <b>", "never seen")


def make_samples(folder: Path, count: int) -> list[Sample]:
    samples = []
    for index in range(count):
        file = folder / f"{index}.png"
        cv2.imwrite(str(file), np.full((40, 60, 3), 30 * index % 255, np.uint8))
        samples.append(Sample(file.name, file, np.array([index % 2]), np.array([[5, 5, 25, 30]], float)))
    return samples


EMPTY = Detections(60, 40, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


def pictures(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: cv2.imread(str(path)).shape[1::-1] for path in folder.glob("*.png")}


SHEETS = {"examples.png", "worst.png", "confident-wrong.png"}
OF_OBJECTS = {"confusion-matrix.png", "precision-recall.png", "f1-curve.png"}


def whole(metrics: Mapping[str, float | None]) -> set[str]:
    """The names of metrics that belong to no single class."""
    return {name for name in metrics if name.count("/") == 1}


def described(task: Task) -> set[str]:
    """The names of metrics that gates may judge, according to the task's description."""
    return {of_test(metric) for metric in (*TASKS[task].metrics, *TASKS[task].overall)}


def test_detection(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 5)
    boxes = np.array([[5, 5, 25, 30], [30, 5, 50, 20]], np.float32)
    found = [
        Detections(60, 40, boxes, np.array([0.9, 0.2], np.float32), np.array([index % 2, 2], np.int32))
        for index in range(5)
    ]
    evaluation = report.evaluate(samples, found, LABELS, tmp_path / "figures")
    metrics = evaluation.metrics
    assert metrics["test/mAP50"] == metrics["test/F1"] == metrics["test/IoU"] == pytest.approx(1)
    assert metrics["test/mAP50-95/Noctiluca scintillans"] == pytest.approx(1)
    assert metrics[of_test("recall", LABELS[1])] == 1
    assert {name for name, value in metrics.items() if value is None} == {
        f"test/{metric}/never seen" for metric in TASKS[Task.DETECTION].metrics
    }
    assert whole(metrics) == described(Task.DETECTION)
    assert evaluation.warnings == ("1 of 3 classes have no annotation in the test split, and no metrics: never seen",)
    sizes = pictures(tmp_path / "figures")
    assert sizes.keys() == {*OF_OBJECTS, *SHEETS}
    assert all(min(size) > 300 for size in sizes.values())


def test_classification(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 4)
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1]], np.float32)
    found = [Classification(60, 40, row) for row in probabilities]
    metrics = report.evaluate(samples, found, LABELS, tmp_path / "figures").metrics
    assert metrics["test/accuracy"] == 0.75
    assert metrics["test/recall/Noctiluca scintillans"] == 0.5
    assert metrics["test/top5"] is None, "among five classes or fewer every answer has the right one"
    assert whole(metrics) == described(Task.CLASSIFICATION)
    assert pictures(tmp_path / "figures").keys() == {"confusion-matrix.png", "precision-recall.png", *SHEETS}


def test_oriented_detection(tmp_path: Path) -> None:
    boxes = np.array([[15, 17, 20, 8, 30], [40, 12, 20, 6, 0]], np.float32)
    turn = rectangle(LABELS[0], 5, 13, 20, 8, 30.0)
    samples = [
        replace(one, shapes=[replace(turn, label=LABELS[index % 2])], boxes=np.zeros((0, 4)))
        for index, one in enumerate(make_samples(tmp_path, 4))
    ]
    found = [
        OrientedDetections(60, 40, boxes, np.array([0.9, 0.2], np.float32), np.array([index % 2, 2], np.int32))
        for index in range(4)
    ]
    metrics = report.evaluate(samples, found, LABELS, tmp_path / "figures").metrics
    assert metrics["test/mAP50"] == metrics["test/mAP75"] == 1
    assert metrics["test/IoU"] == pytest.approx(1)
    assert whole(metrics) == described(Task.ORIENTED_DETECTION)
    assert pictures(tmp_path / "figures").keys() == {*OF_OBJECTS, *SHEETS}


def test_a_detector_that_finds_nothing_is_reported_too(tmp_path: Path) -> None:
    metrics = report.evaluate(make_samples(tmp_path, 2), [EMPTY, EMPTY], LABELS, tmp_path / "figures").metrics
    assert metrics["test/mAP50"] == metrics["test/recall"] == 0
    assert metrics["test/IoU"] is None, "no box was matched"


@pytest.mark.parametrize("finds", [False, True])
def test_a_split_without_boxes_has_no_metrics(tmp_path: Path, finds: bool) -> None:
    samples = [replace(one, class_ids=np.zeros(0, int), boxes=np.zeros((0, 4))) for one in make_samples(tmp_path, 2)]
    wrong = Detections(
        60, 40, np.array([[5, 5, 25, 30]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32)
    )
    evaluation = report.evaluate(samples, [wrong if finds else EMPTY] * 2, LABELS, tmp_path / "figures")
    assert {"test/mAP50", "test/precision", "test/confidence"} <= evaluation.metrics.keys()
    assert set(evaluation.metrics.values()) == {None}
    (warning,) = evaluation.warnings
    assert warning.startswith("the test split has no annotation at all: its metrics are undefined")
    drawn = {*OF_OBJECTS, *(SHEETS if finds else {examples.SPREAD})}
    assert pictures(tmp_path / "figures").keys() == drawn, "where nothing is wrong, there is no sheet of what is"


def test_sheets_show_what_is_worst_and_what_the_model_is_surest_of_and_wrong(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 5)
    # The true classes are 0, 1, 0, 1, 0: the last two are wrong, and the last one confidently.
    probabilities = [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0.7, 0.3, 0], [0.05, 0.95, 0]]
    found = [Classification(60, 40, np.array(row, np.float32)) for row in probabilities]
    told = classification.pictures(samples, found, LABELS)

    assert examples.worst(told.quality) == [4, 3, 2, 1, 0]
    assert examples.most_mistaken(told.mistaken) == [4, 3]
    assert examples.worst([1.0, 0.5, 1.0], 3) == [1], "what is perfect is not among the worst"

    examples.sheets(told, tmp_path / "figures")
    assert pictures(tmp_path / "figures").keys() == SHEETS
    right = replace(told, quality=[1.0] * 5, mistaken=[np.nan] * 5)
    examples.sheets(right, tmp_path / "figures")
    assert pictures(tmp_path / "figures").keys() == {examples.SPREAD}, "nor is a sheet of an earlier measurement"


def test_what_a_detector_is_surest_of_and_wrong_is_its_surest_false_box() -> None:
    assert Judged({0}).surest_wrong(np.array([0.9, 0.8, 0.3])) == 0.8
    assert np.isnan(Judged({0}).surest_wrong(np.array([0.9])))
    assert np.isnan(Judged().surest_wrong(np.zeros(0)))
    assert Judged({0}, ignored={1}).surest_wrong(np.array([0.9, 0.8, 0.3])) == 0.3, "what lies in a crowd is not judged"


def test_a_classifier_of_one_class_is_right_and_tells_nothing(tmp_path: Path) -> None:
    samples = [replace(one, class_ids=np.zeros(1, int)) for one in make_samples(tmp_path, 2)]
    found = [Classification(60, 40, np.ones(1, np.float32))] * 2
    evaluation = report.evaluate(samples, found, LABELS[:1], tmp_path / "figures")
    assert evaluation.metrics["test/accuracy"] == 1
    (warning,) = evaluation.warnings
    assert "a classifier that always says so is right" in warning


def test_many_classes_still_make_a_figure(tmp_path: Path) -> None:
    count = 60
    figures.confusion(
        np.eye(count, dtype=int), [f"species {index}" for index in range(count)], "title", "images", tmp_path
    )
    curves = {f"species {index}": (np.array([0, 1]), np.array([1, index / count])) for index in range(count)}
    figures.precision_recall(curves, dict.fromkeys(curves, 0.5), "condition", tmp_path)
    confidences = np.linspace(0, 1, 11)
    f1 = dict.fromkeys(curves, 1 - confidences)
    figures.by_confidence(confidences, f1, {"F1": 1 - confidences}, 0.5, "condition", tmp_path)
    assert pictures(tmp_path).keys() == OF_OBJECTS


def test_learning_curves(tmp_path: Path) -> None:
    epochs = [
        (number, {"train/loss": 1 / number, "validation/loss": 2 / number, "validation/F1": 0.5}) for number in (1, 2)
    ]
    figures.learning_curves(epochs, tmp_path / "whole", best=2, planned=2)
    figures.learning_curves(epochs, tmp_path / "stopped", best=1, planned=50)
    assert pictures(tmp_path / "whole").keys() == {"learning-curves.png"}
    whole_run, stopped = (
        cv2.imread(str(tmp_path / name / "learning-curves.png")).astype(int) for name in ("whole", "stopped")
    )
    assert np.abs(whole_run - stopped).sum() > 0, "marks say which epoch is kept, and where it stopped"


def test_the_axis_of_a_single_epoch_has_no_parts_of_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, _: drawn.append(figure))
    figures.learning_curves([(1, {"train/loss": 1.0, "validation/F1": 0.5})], tmp_path, best=1, planned=1)
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
