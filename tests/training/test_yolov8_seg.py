"""YOLOv8-seg trains on the dataset's pixels, and predicts what ultralytics predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultralytics import YOLO
from ultralytics.data import utils
from ultralytics.nn.tasks import SegmentationModel

from pelagos_contract import run_lengths
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, shapes, yolo_shapes
from pelagos_pipelines.export import parity
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Settings, Thresholds
from pelagos_pipelines.serving.tasks import named
from pelagos_pipelines.serving.tasks.instance_segmentation import Instances
from pelagos_pipelines.training import yolov8_seg
from pelagos_pipelines.training.altering import Examples
from serving.detectors import LABELS, SIZE, SIZES, make_checkpoint, make_image
from training.shapes import CLASSES, make_truth

WIDTH, HEIGHT = 90, 60
FRAME = shapes.polygon("a", [5, 5, 60, 5, 60, 50, 5, 50], holes=[[20, 20, 30, 20, 30, 30, 20, 30]])
PARTS = shapes.polygon("a", [2, 2, 20, 3, 12, 30], [50.5, 20.2, 80, 30, 55, 55])
OVERLAPPING = shapes.polygon("a", [5, 5, 45, 5, 45, 40, 5, 40], [30, 20, 80, 20, 80, 55, 30, 55])
SPECKS = masks.of_array("a", np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.1)


@pytest.mark.parametrize("shape", [FRAME, PARTS, OVERLAPPING, SPECKS], ids=["hole", "parts", "overlap", "specks"])
def test_an_object_has_its_pixels_where_ultralytics_trains_on_it(shape: shapes.Shape) -> None:
    """Written as a row of the YOLO view: one ring, in fractions of the image."""
    row = np.array(yolo_shapes.row(shape, (WIDTH, HEIGHT)).split(), np.float32).reshape(-1, 2)

    got = utils.polygon2mask((HEIGHT, WIDTH), [(row * np.array([WIDTH, HEIGHT], np.float32)).reshape(-1)])

    assert np.array_equal(got != 0, masks.drawn(shape, WIDTH, HEIGHT))


def test_an_object_beyond_the_image_has_no_pixel_there() -> None:
    assert not utils.polygon2mask((HEIGHT, WIDTH), [np.array([95.0, 5, 120, 5, 120, 30])]).any()
    assert utils.polygon2mask((HEIGHT, WIDTH), [np.array([-9.0, -9, 4, -9, 4, 4, -9, 4])]).sum() == 16


def test_an_outline_of_many_points_is_drawn_in_fewer_and_the_others_stay() -> None:
    turns = np.linspace(0, 2 * np.pi, 20_000)
    round_one = (
        0.5 + (0.3 + 0.01 * np.sin(400 * turns))[:, None] * np.stack((np.cos(turns), np.sin(turns)), 1)
    ).astype(np.float32)
    short = np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]], np.float32)
    labels = [{"segments": [round_one, short]}] * 2

    assert yolov8_seg.shorten(labels, 640) == 1

    long, kept = labels[0]["segments"]
    assert len(long) <= yolov8_seg.MOST_POINTS
    assert kept is short
    want, got = (utils.polygon2mask((640, 640), [(each * 640).ravel()]) for each in (round_one, long))
    assert (want & got).sum() > 0.99 * (want | got).sum()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("segmenter") / "best.pt"
    return make_checkpoint(path, network=SegmentationModel, architecture="yolov8n-seg", task="segment")


def test_masks_are_those_of_ultralytics_own_prediction(checkpoint: Path) -> None:
    reference = YOLO(checkpoint)
    images = [make_image(*size, seed=2) for size in SIZES]
    thresholds = Thresholds()
    settings = Settings("InstanceSegmentation", LABELS, SIZE, 32, head="yolov8-seg")

    proven = list(yolov8_seg.FAMILY.prove(checkpoint, images, thresholds))
    predicted = list(yolov8_seg.FAMILY.predict(checkpoint, images, thresholds))

    for image, (raw, theirs), ours in zip(images, proven, predicted, strict=True):
        assert isinstance(theirs, Instances)
        assert isinstance(ours, Instances)
        (want,) = reference.predict(image, retina_masks=True, verbose=False, save=False)
        height, width = image.shape[:2]
        assert len(want) == len(theirs.masks) == len(ours.masks) > 5
        for number, mask in enumerate(want.masks.data.numpy() > 0):
            assert np.array_equal(whole(theirs.masks[number], (height, width)), mask), (
                "what is proven is ultralytics' own"
            )
        decoded = named(settings.task, settings.head).decode(
            raw, Fitted(np.zeros((1, 1, 3), np.uint8), width, height), settings, thresholds
        )
        parity.compare([theirs, theirs], [decoded, ours], thresholds.confidence)


def test_the_best_are_kept_and_it_is_said_that_there_are_more(checkpoint: Path) -> None:
    image = make_image(320, 240, seed=2)
    few = Thresholds(max_detections=4)
    for ours, (_, theirs) in zip(
        yolov8_seg.FAMILY.predict(checkpoint, [image], few),
        yolov8_seg.FAMILY.prove(checkpoint, [image], few),
        strict=True,
    ):
        assert (ours.is_cut, theirs.is_cut) == (True, True)
        parity.compare([theirs], [ours], 0.25)


def test_nothing_is_found_where_nothing_is_sure(checkpoint: Path) -> None:
    ((_, found),) = yolov8_seg.FAMILY.prove(checkpoint, [make_image(64, 64, seed=0)], Thresholds(confidence=1.0))
    assert found.render(LABELS)["instances"] == []


def whole(mask: str, size: tuple[int, int]) -> Any:
    found: Any = np.zeros(size, bool)
    left, top, inside = run_lengths.part_of(mask, size)
    found[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return found


def test_the_sheet_of_an_augmentation_has_the_outlines_that_training_takes(tmp_path: Path) -> None:
    samples = make_truth(tmp_path / "drawn", (2, 1, 1), Task.INSTANCE_SEGMENTATION).samples("train")
    (tmp_path / "view").mkdir()
    examples = Examples(samples, CLASSES, shown=2, rounds=1, image_size=96, seed=1, folder=tmp_path / "view")

    rows = list(yolov8_seg.FAMILY.altered(Augmentation.model_validate({"flipHorizontal": True}), examples))

    for (altered,) in rows:
        assert len(altered.outlines) == len(altered.boxes) == len(altered.class_ids) > 0
        for outline, (x1, y1, x2, y2) in zip(altered.outlines, altered.boxes, strict=True):
            assert (outline.min(axis=0) >= (x1 - 6, y1 - 6)).all()
            assert (outline.max(axis=0) <= (x2 + 6, y2 + 6)).all()
