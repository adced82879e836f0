"""When the answer to a synthetic inference is right: different arithmetic is allowed, a different model is not."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pelagos.engines.triton.probe import compare
from pelagos.ports.serving import DesiredService
from pelagos_contract.run_lengths import Part, encoded

PACKAGE = {"confidence": 0.25, "iou": 0.7, "maxDetections": 300}


def want(confidence: str = "0.25", iou: str = "0.7") -> DesiredService:
    return DesiredService(
        uid="u", namespace="n", name="s", model_name="m", package_uri="/p", onnx_sha256="0",
        manifest_sha256="1", max_batch_size=1,
        max_queue_delay=0, instances=1, confidence=confidence, iou=iou, cpu=1, digest="d",
    )  # fmt: skip


def detection(score: float, x: float = 0.0, class_id: int = 0, width: float = 10.0) -> dict[str, Any]:
    label = ("copepod", "diatom")[class_id]
    return {"label": label, "classId": class_id, "score": score, "box": [x, 0.0, x + width, 10.0]}


def detections(*found: dict[str, Any]) -> dict[str, Any]:
    return {"task": "Detection", "width": 64, "height": 48, "detections": list(found)}


def classes(**probabilities: float) -> dict[str, Any]:
    found = [{"label": label, "classId": i, "probability": p} for i, (label, p) in enumerate(probabilities.items())]
    return {"task": "Classification", "width": 64, "height": 48, "classes": found}


KNOWN = detections(detection(0.9), detection(0.8, 100), detection(0.7, 200, 1))


@pytest.mark.parametrize(
    "answer",
    [
        KNOWN,
        detections(detection(0.905, 0.9), detection(0.795, 99.1), detection(0.7, 200, 1)),
        detections(detection(0.8, 100), detection(0.9), detection(0.7, 200, 1)),
        detections(*KNOWN["detections"], detection(0.26, 300)),
    ],
    ids=[
        "equal",
        "within a pixel and a hundredth",
        "in another order",
        "with one more that is hardly above the threshold",
    ],
)
def test_right(answer: dict[str, Any]) -> None:
    assert compare(KNOWN, answer, PACKAGE, want()) is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (detections(), "missing: copepod with score 0.900"),
        (detections(*KNOWN["detections"][:2]), r"missing: diatom .* got 2 of 3"),
        (detections(*KNOWN["detections"], detection(0.5, 300)), "not expected: copepod with score 0.500"),
        (detections(*KNOWN["detections"], detection(0.9)), "not expected: copepod with score 0.900"),
        (detections(detection(0.9, 1.5), *KNOWN["detections"][1:]), "missing: copepod with score 0.900"),
        (detections(detection(0.88), *KNOWN["detections"][1:]), "missing: copepod with score 0.900"),
        (detections(detection(0.9, class_id=1), *KNOWN["detections"][1:]), "missing: copepod"),
        (KNOWN | {"width": 65}, "width: expected 64, got 65"),
        (classes(copepod=1.0), "task: expected Detection, got Classification"),
    ],
)
def test_wrong(answer: dict[str, Any], message: str) -> None:
    assert re.search(message, compare(KNOWN, answer, PACKAGE, want()) or "")


def test_a_higher_threshold_of_the_service_hides_detections_rightly() -> None:
    answer = detections(detection(0.9), detection(0.8, 100))
    assert compare(KNOWN, answer, PACKAGE, want(confidence="0.75")) is None
    assert "missing" in (compare(KNOWN, detections(detection(0.9)), PACKAGE, want(confidence="0.75")) or "")


def test_a_lower_threshold_of_the_service_shows_more_rightly() -> None:
    answer = detections(*KNOWN["detections"], detection(0.15, 300))
    assert compare(KNOWN, answer, PACKAGE, want(confidence="0.1")) is None


def test_a_lower_number_of_detections_leaves_out_the_doubtful_ones_rightly() -> None:
    two = KNOWN | {"detections": KNOWN["detections"][:2], "cut": True}
    assert compare(KNOWN, two, PACKAGE, replace(want(), max_detections=2)) is None
    assert "missing" in (compare(KNOWN, two, PACKAGE, want()) or "")


def test_of_thousands_of_detections_the_best_are_compared() -> None:
    crowd = [detection(0.95 - index / 5_000, 20.0 * index) for index in range(3000)]
    assert compare(detections(*crowd), detections(*crowd), PACKAGE, want(iou="0.5")) is None
    other = detections(detection(0.95, -500), *crowd)
    assert "not expected" in (compare(detections(*crowd), other, PACKAGE, want()) or "")


def test_another_iou_of_the_service_merges_more_or_less_rightly() -> None:
    """Two boxes that overlap by 0.8: the package's 0.7 merges them, 0.9 does not; by 0.6: 0.7 keeps both, 0.5 does not."""
    apart = detections(detection(0.9), detection(0.8, 10 / 9))
    assert compare(detections(detection(0.9)), apart, PACKAGE, want(iou="0.9")) is None
    both = detections(detection(0.9), detection(0.8, 2.5))
    assert compare(both, detections(detection(0.9)), PACKAGE, want(iou="0.5")) is None
    assert "missing" in (compare(both, detections(detection(0.9)), PACKAGE, want()) or "")
    assert "not expected" in (compare(detections(detection(0.9)), apart, PACKAGE, want()) or "")


def test_probabilities_may_differ_by_a_hundredth() -> None:
    known = classes(copepod=0.7, diatom=0.3)
    assert compare(known, classes(copepod=0.705, diatom=0.295), {}, want()) is None
    assert (
        compare(known, classes(copepod=0.68, diatom=0.32), {}, want())
        == "copepod: expected probability 0.7000, got 0.68"
    )
    assert compare(known, classes(copepod=0.7), {}, want()) == "diatom: expected probability 0.3000, got None"
    assert compare(known, classes(copepod=0.7, diatom=0.3, other=0), {}, want()) == "expected 2 classes, got 3"


def instance(score: float, top: int = 5, height: int = 40, **changes: Any) -> dict[str, Any]:
    counts = encoded(Part(10, top, np.ones((height, 40), bool)), (48, 64))
    mask = {"size": [48, 64], "counts": counts} | changes
    return {
        "label": "copepod",
        "classId": 0,
        "score": score,
        "box": [10.0, 5.0, 50.0, 45.0],
        "mask": mask,
        "area": 40 * height,
    }


def instances(*found: dict[str, Any]) -> dict[str, Any]:
    return {"task": "InstanceSegmentation", "width": 64, "height": 48, "cut": False, "instances": list(found)}


def test_masks_may_differ_by_a_row_and_not_by_more() -> None:
    known = instances(instance(0.9))
    assert compare(known, instances(instance(0.9)), PACKAGE, want()) is None
    assert compare(known, instances(instance(0.9, top=6, height=39)), PACKAGE, want()) is None
    for wrong in (instance(0.9, top=9, height=36), instance(0.9, counts="P0"), instance(0.9, size=[64, 48])):
        assert (compare(known, instances(wrong), PACKAGE, want()) or "").startswith("missing: copepod with score 0.900")


def turned(score: float, angle: float = 30.0, length: float = 40.0, x: float = 100.0) -> dict[str, Any]:
    turn = math.radians(angle)
    corners = []
    for across, down in ((-length, -10), (length, -10), (length, 10), (-length, 10)):
        right, below = across * math.cos(turn) - down * math.sin(turn), across * math.sin(turn) + down * math.cos(turn)
        corners.append([x + right / 2, 50 + below / 2])
    box = [x, 50.0, length, 10.0, angle]
    return {"label": "copepod", "classId": 0, "score": score, "box": box, "corners": corners}


def turns(*found: dict[str, Any]) -> dict[str, Any]:
    return detections(*found) | {"task": "OrientedDetection"}


def test_a_turned_box_is_the_same_whichever_corner_comes_first() -> None:
    known = turns(turned(0.9, 179.9))
    assert compare(known, turns(turned(0.9, 0.1)), PACKAGE, want()) is None
    assert compare(turns(turned(0.9, 40, 10)), turns(turned(0.9, 130, 10)), PACKAGE, want()) is None
    assert "missing: copepod with score 0.900 at (100.0, 50.0), 40.0 x 10.0, at 179.9 degrees" in (
        compare(known, turns(turned(0.9, 5)), PACKAGE, want()) or ""
    )
    assert "missing" in (compare(known, turns(turned(0.9, 179.9, x=102)), PACKAGE, want()) or "")


def test_of_turned_boxes_a_lower_iou_leaves_fewer_and_no_others() -> None:
    both, one = turns(turned(0.9), turned(0.8, 33)), turns(turned(0.9))
    assert compare(both, one, PACKAGE, want(iou="0.5")) is None
    assert compare(one, both, PACKAGE, want(iou="0.9")) is None
    assert "missing" in (compare(both, one, PACKAGE, want()) or "")
    assert "missing" in (compare(both, one, PACKAGE, want(iou="0.9")) or "")
    assert "not expected" in (compare(one, both, PACKAGE, want(iou="0.5")) or "")


def mask(top: int, height: int = 20) -> dict[str, Any]:
    """A mask of some rows of an image of 64 by 48 pixels."""
    return {"size": [48, 64], "counts": encoded(Part(0, top, np.ones((height, 64), bool)), (48, 64))}


def of_class(label: str, top: int, height: int = 20) -> dict[str, Any]:
    area = height * 64
    return {"label": label, "classId": 0, "area": area, "share": area / 48 / 64, "mask": mask(top, height)}


def mapped(*found: dict[str, Any]) -> dict[str, Any]:
    return {"task": "SemanticSegmentation", "width": 64, "height": 48, "cut": False, "classes": list(found)}


def test_classes_of_pixels_may_differ_in_a_few_of_them() -> None:
    known = mapped(of_class("sand", 5), of_class("kelp", 30, 10))
    assert compare(known, mapped(*known["classes"][::-1]), PACKAGE, want(confidence="0.9")) is None
    # One pixel in 50 may differ: 61 of them, less than one row on each side.
    moved = compare(known, mapped(of_class("sand", 6), of_class("kelp", 30, 10)), PACKAGE, want())
    assert moved == "sand: 128 of 3072 pixels are not where they are expected; 61 may differ"
    for wrong in (mapped(of_class("kelp", 30, 10)), mapped(*known["classes"], of_class("rock", 0, 5))):
        assert "pixels are not where they are expected" in (compare(known, wrong, PACKAGE, want()) or "")
    without = {key: value for key, value in of_class("kelp", 30, 10).items() if key != "mask"}
    assert compare(known, mapped(of_class("sand", 5), without), PACKAGE, want()) is None


def segment(score: float, top: int, height: int = 20, class_id: int = 0) -> dict[str, Any]:
    label = ("copepod", "diatom")[class_id]
    return {**of_class(label, top, height), "id": 1, "classId": class_id, "isThing": True, "score": score}


def segmented(*found: dict[str, Any]) -> dict[str, Any]:
    return {"task": "PanopticSegmentation", "width": 64, "height": 48, "cut": False, "segments": list(found)}


def test_segments_may_differ_in_a_tenth_of_their_pixels() -> None:
    known = segmented(segment(0.9, 0), segment(0.8, 25, class_id=1))
    assert compare(known, segmented(*known["segments"][::-1]), PACKAGE, want()) is None
    assert compare(known, segmented(segment(0.9, 1, 19), segment(0.81, 25, class_id=1)), PACKAGE, want()) is None
    assert compare(known, segmented(*known["segments"], segment(0.26, 20, 5)), PACKAGE, want()) is None
    missing = compare(known, segmented(segment(0.9, 0), segment(0.8, 25)), PACKAGE, want())
    assert missing == "missing: diatom with score 0.800 and 1280 pixels"
    extra = compare(known, segmented(*known["segments"], segment(0.5, 20, 5)), PACKAGE, want())
    assert extra == "not expected: copepod with score 0.500 and 320 pixels"


def test_of_segments_at_another_confidence_the_surest_is_there() -> None:
    known = segmented(segment(0.9, 0), segment(0.4, 25, class_id=1))
    assert compare(known, segmented(segment(0.9, 0)), PACKAGE, want(confidence="0.5")) is None
    assert compare(known, segmented(segment(0.9, 0, class_id=1)), PACKAGE, want(confidence="0.5"))


def test_a_known_answer_that_had_no_room_for_any_object_says_nothing_of_them() -> None:
    """Its best mask alone is longer than a package may hold; the outputs before that are still compared."""
    known = instances() | {"cut": True}
    assert compare(known, instances(instance(0.9)), PACKAGE, want()) is None


BROKEN: tuple[Any, ...] = (None, 7, "copepod", [], {}, {"label": "copepod"})
"""Invalid values instead of an object."""


@pytest.mark.parametrize("broken", BROKEN, ids=repr)
def test_an_answer_that_is_none_of_the_contract_is_wrong_and_no_fault_of_the_operator(broken: Any) -> None:
    for known, results in (
        (KNOWN, "detections"),
        (instances(instance(0.9)), "instances"),
        (turns(turned(0.9)), "detections"),
        (mapped(of_class("kelp", 5)), "classes"),
        (segmented(segment(0.9, 5)), "segments"),
    ):
        assert compare(known, known | {results: [broken]}, PACKAGE, want())
        assert compare(known, known | {results: broken}, PACKAGE, want())
        for field in known[results][0]:  # not all fields are compared
            compare(known, known | {results: [{**known[results][0], field: broken}]}, PACKAGE, want())


def test_a_task_that_an_answer_says_nothing_of_is_named() -> None:
    answer = {"task": "InstanceSegmentation", "width": 64, "height": 48}
    told = compare(instances(instance(0.9)), answer, PACKAGE, want())
    assert told == "the answer does not fit InstanceSegmentation: KeyError: 'instances'"
