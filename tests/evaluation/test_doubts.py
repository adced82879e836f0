"""Labels made wrong on purpose are doubted; right ones are not, nor are those of classes the model never learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import untrusted_text
from pelagos_contract.splits import Split
from pelagos_pipelines.evaluation import doubt_report, doubts
from pelagos_pipelines.evaluation.doubts import Doubt, Kind
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections

LABELS = ("cod", "eel", "ray")


def labelled(*class_ids: int) -> list[Sample]:
    none = np.zeros((0, 4))
    return [Sample(f"{place}.png", Path("none.png"), np.array([one]), none) for place, one in enumerate(class_ids)]


def said(*probabilities: Any) -> list[Classification]:
    return [Classification(60, 40, np.array(one, np.float32)) for one in probabilities]


def annotated(*marks: tuple[int, tuple[float, float, float, float]]) -> Sample:
    boxes = np.array([box for _, box in marks], float).reshape(-1, 4)
    return Sample("frame.png", Path("none.png"), np.array([class_id for class_id, _ in marks], int), boxes)


def detected(*marks: tuple[int, float, tuple[float, float, float, float]]) -> Detections:
    marks = tuple(sorted(marks, key=lambda mark: -mark[1]))
    boxes = np.array([box for *_, box in marks], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in marks], np.float32)
    return Detections(200, 100, boxes, scores, np.array([class_id for class_id, *_ in marks], np.int32))


def kinds(found: list[Doubt]) -> list[tuple[int, str, int | None, int | None]]:
    return [(one.sample, one.kind.value, one.label, one.suggested) for one in found]


def test_the_model_is_confident_where_it_is_as_sure_as_of_that_label_in_the_mean() -> None:
    """By hand: the mean confidence in the given label is 0.7 for cod and 0.5 for eel."""
    labels = np.array([0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])

    assert doubts.confident_classes(labels, probabilities).tolist() == [0, 1, 1, 1, 0]


def test_a_label_is_doubted_when_the_model_is_confident_of_another_and_says_it() -> None:
    found = doubts.of_classes(
        labelled(0, 0, 1, 1, 1), said([0.9, 0.1], [0.55, 0.45], [0.2, 0.8], [0.4, 0.6], [0.9, 0.1])
    )

    assert kinds(found) == [(4, "OtherClass", 1, 0)]
    assert found[0].sure == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_were_changed_are_found_among_many(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = random.integers(0, 3, 600)
    # Right in at least nine of ten cases, with a confidence of 0.6 to 0.99.
    says = np.where(random.random(600) < 0.9, true, random.integers(0, 3, 600))
    sure = random.uniform(0.6, 0.99, 600)
    probabilities = np.repeat((1 - sure)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(600), says] = sure
    changed = random.choice(600, 30, replace=False)
    given = true.copy()
    given[changed] = (given[changed] + 1) % 3

    found = doubts.of_classes(labelled(*given.tolist()), said(*probabilities))

    doubted = {one.sample for one in found}
    assert len(doubted & {*changed.tolist()}) >= 20
    assert len(doubted) <= 80


def test_a_class_without_a_label_and_a_single_class_are_no_reason_to_doubt() -> None:
    assert doubts.of_classes(labelled(0, 0), said([0.4, 0.1, 0.5], [0.9, 0.05, 0.05])) == []
    assert doubts.of_classes(labelled(0, 0), said([1.0], [1.0])) == []
    assert doubts.of_classes([], []) == []


ONE, OTHER, FAR = (10.0, 10.0, 50.0, 50.0), (100.0, 10.0, 140.0, 50.0), (150.0, 60.0, 190.0, 95.0)


def test_a_box_with_another_class_an_object_that_nobody_drew_and_a_box_around_nothing_are_doubted() -> None:
    right = annotated((0, ONE), (1, OTHER)), detected((0, 0.9, ONE), (1, 0.8, OTHER))
    relabelled = annotated((0, ONE), (0, OTHER)), detected((0, 0.9, ONE), (1, 0.95, OTHER))
    forgotten = annotated((0, ONE)), detected((0, 0.9, ONE), (1, 0.9, FAR), (0, 0.3, FAR))
    empty = annotated((0, ONE), (1, FAR)), detected((0, 0.9, ONE), (1, 0.02, FAR))

    given = (right, relabelled, forgotten, empty, right)

    told = doubts.of_objects([sample for sample, _ in given], [found for _, found in given], 3)

    assert kinds(told) == [(1, "OtherClass", 0, 1), (2, "NotAnnotated", None, 1), (3, "NotFound", 1, None)]
    assert [one.box for one in told] == [OTHER, FAR, FAR]


def test_a_box_beside_its_object_is_doubted_and_the_prediction_that_lies_on_it_is_no_other_object() -> None:
    beside = (30.0, 10.0, 70.0, 50.0)
    samples = [annotated((0, ONE))] * 3 + [annotated((0, beside))]

    told = doubts.of_objects(samples, [detected((0, 0.9, ONE))] * 4, 1)

    assert kinds(told) == [(3, "NotFound", 0, None)]
    assert told[0].sure == pytest.approx(2 / 3, abs=0.01)


def test_a_class_that_the_model_does_not_know_is_not_said_to_be_missing() -> None:
    samples = [annotated((0, ONE), (1, OTHER))] * 4

    assert doubts.of_objects(samples, [detected((0, 0.9, ONE))] * 4, 2) == []


def test_weak_predictions_and_several_of_one_object_are_told_once_or_not_at_all() -> None:
    sure, near = detected((0, 0.9, ONE)), (152.0, 60.0, 192.0, 95.0)
    weak = detected((0, 0.9, ONE), (0, 0.3, FAR))
    twice = detected((0, 0.9, ONE), (0, 0.95, FAR), (0, 0.92, near))

    told = doubts.of_objects([annotated((0, ONE))] * 3, [sure, weak, twice], 1)

    assert kinds(told) == [(2, "NotAnnotated", None, 0)]


def test_faint_detections_change_no_doubt_and_need_not_be_kept() -> None:
    samples = [annotated((0, ONE)), annotated((0, ONE), (0, OTHER))]
    found = [detected((0, 0.9, ONE), (1, 0.04, OTHER)), detected((0, 0.9, ONE), (0, 0.06, FAR), (0, 0.01, OTHER))]
    kept = [doubts.without_faint(one) for one in found]

    assert [len(one.scores) for one in kept] == [1, 2]
    assert kinds(doubts.of_objects(samples, found, 2)) == [(1, "NotFound", 0, None)]
    assert doubts.of_objects(samples, kept, 2) == doubts.of_objects(samples, found, 2)


def test_images_without_boxes_or_predictions_are_no_fault() -> None:
    assert (
        doubts.of_objects([annotated(), annotated((0, ONE)), annotated()], [detected(), detected(), detected()], 1)
        == []
    )


def test_the_list_names_what_is_doubted_and_the_sheet_shows_it(tmp_path: Path) -> None:
    held_out: dict[Split, list[Sample]] = {"test": [], "validation": []}
    for number in range(40):
        file = tmp_path / f"{number}.png"
        cv2.imwrite(str(file), np.full((40, 60, 3), 6 * number, np.uint8))
        name = f"{untrusted_text.HOSTILE}/{number}.png"
        sample = Sample(name, file, np.array([0]), np.array([[5, 5, 25, 30]], float))
        held_out["test" if number < 30 else "validation"].append(sample)
    found = [Doubt(number, Kind.OTHER_CLASS, 0, 1, 0.9, (5.0, 5.0, 25.0, 30.0)) for number in range(40)]
    found += [
        Doubt(31, Kind.NOT_ANNOTATED, None, 1, 0.8, (30.0, 5.0, 55.0, 30.0)),
        Doubt(0, Kind.NOT_FOUND, 0, None, 1.0),
    ]

    doubt_report.write(found, held_out, ("cod", untrusted_text.HOSTILE), tmp_path / "labels", dataset="fish")

    text = (tmp_path / "labels" / doubt_report.LIST).read_text(encoding="utf-8")
    told = json.loads(text)
    assert untrusted_text.is_fit(text)
    assert (told["dataset"], told["images"], told["labels"], told["doubted"]) == ("fish", 40, 40, 42)
    assert told["byKind"] == {"OtherClass": 40, "NotAnnotated": 1, "NotFound": 1}
    assert told["confused"][0]["labels"] == 40
    assert told["doubts"][31]["split"] == "validation"
    assert told["doubts"][0] | {"image": "", "suggested": ""} == {
        "image": "",
        "split": "test",
        "kind": "OtherClass",
        "label": "cod",
        "suggested": "",
        "sure": 0.9,
        "box": [5.0, 5.0, 20.0, 25.0],
    }
    height, width, _ = cv2.imread(str(tmp_path / "labels" / doubt_report.SHEET)).shape
    assert 1000 < height < 3000
    assert 1000 < width < 3000


def test_where_nothing_is_doubted_the_list_says_so_and_there_is_no_sheet(tmp_path: Path) -> None:
    doubt_report.write([], {"test": labelled(0, 1)}, LABELS, tmp_path)

    assert json.loads((tmp_path / doubt_report.LIST).read_text(encoding="utf-8"))["doubted"] == 0
    assert not (tmp_path / doubt_report.SHEET).exists()
