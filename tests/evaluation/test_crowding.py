"""Anyone who sets a limit of detections per image is warned if it is too low."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pelagos_pipelines.evaluation import crowding
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.serving.tasks.detection import Detections


def make_sample(objects: int) -> Sample:
    return Sample("image", Path("image"), np.zeros(objects, int), np.zeros((objects, 4)))


def make_found(lowest: float, *, cut: bool) -> Detections:
    scores = np.array([0.9, lowest], np.float32)
    return Detections(64, 48, np.zeros((2, 4), np.float32), scores, np.zeros(2, np.int32), cut=cut)


TEST = (make_sample(600), make_sample(301), make_sample(300), make_sample(0))
QUIET = [make_found(0.001, cut=True)] * 4


def test_a_split_with_crowded_images_is_named_with_their_number_and_the_largest() -> None:
    truth = GroundTruth(("copepod",), {"train": (make_sample(400),), "validation": (make_sample(2),), "test": TEST})
    first, second = crowding.warnings(truth, TEST, QUIET, 0.25, 300)
    assert first.startswith("1 of 1 images of the split train show more than 300 objects, up to 400: 25% ")
    assert second.startswith("2 of 4 images of the split test show more than 300 objects, up to 600: 25% ")
    assert second.endswith("raise spec.evaluation.maxDetections")


def test_nothing_is_said_where_all_fits_and_only_doubtful_detections_are_left_out() -> None:
    truth = GroundTruth(("copepod",), {"test": TEST})
    assert crowding.warnings(truth, TEST, QUIET, 0.25, 600) == []


def test_detections_that_count_and_are_left_out_are_reported() -> None:
    truth = GroundTruth(("copepod",), {"test": TEST})
    (line,) = crowding.warnings(truth, TEST, [make_found(0.4, cut=True), *QUIET[1:]], 0.25, 600)
    assert line.startswith(
        "in 1 of 4 images of the split test more than 600 objects are found with a confidence above 0.250"
    )
