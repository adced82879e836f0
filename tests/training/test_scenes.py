"""Augmentation for networks that train on masks: objects stay where their pixels are, whatever is done to an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.tasks import Task
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.training import scenes
from pelagos_pipelines.training.scenes import Scene, Scenes
from training.shapes import COLOURS, make_sample
from training.test_augmentation import declared

SIZE = 96


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("shapes")
    return [make_sample(folder, f"{seed}.png", seed, Task.INSTANCE_SEGMENTATION) for seed in range(6)]


def altered(samples: list[Sample], policy: Augmentation, times: int = 4, size: int = SIZE) -> list[Scene]:
    amounts = scenes.amounts(policy, Hyperparameters())
    chosen = list(range(len(samples))) * times
    return Scenes(samples, size, threads=1).altered(chosen, amounts, np.random.default_rng(3))


def iou(one: Any, other: Any) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def of_colour(scene: Scene, class_id: int) -> Any:
    """The pixels that have the colour of an object of the class."""
    return np.abs(scene.canvas.astype(int) - COLOURS[class_id]).max(axis=2) < 60


def covered(scene: Scene, class_id: int) -> Any:
    chosen = scene.masks[scene.class_ids == class_id]
    return chosen.any(axis=0) if len(chosen) else np.zeros(scene.canvas.shape[:2], bool)


@pytest.mark.parametrize(
    "changes",
    [
        {"flipHorizontal": True},
        {"flipVertical": True},
        {"rotate": 180},
        {"scale": 40},
        {"translate": 20},
        {"rotate": 90, "scale": 20, "translate": 10, "flipVertical": True, "mosaic": 50},
    ],
    ids=str,
)
def test_masks_and_boxes_go_where_the_objects_go(samples: list[Sample], changes: dict[str, Any]) -> None:
    found = altered(samples, declared(**changes))

    assert any(not np.array_equal(scene.canvas, found[0].canvas) for scene in found[6::6])
    for scene in found:
        # Objects may cover each other, and only a little of one may remain at the canvas's edge.
        seen = [of_colour(scene, class_id) for class_id in (0, 1)]
        assert iou(seen[0] | seen[1], covered(scene, 0) | covered(scene, 1)) > 0.8
        assert all(
            (pixels & ~covered(scene, class_id)).sum() < 0.15 * pixels.sum() + 30
            for class_id, pixels in enumerate(seen)
        )
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(box - edges).max() <= 1


def test_without_a_declaration_images_are_mirrored_scaled_and_moved(samples: list[Sample]) -> None:
    amounts = scenes.amounts(None, Hyperparameters())

    assert {name for name, amount in amounts.items() if amount} == {
        "flipHorizontal",
        "scale",
        "translate",
        "color.contrast",
    }


def test_a_hyperparameter_asks_for_mosaics_of_all_images(samples: list[Sample]) -> None:
    amounts = scenes.amounts(declared(mosaic=10), Hyperparameters(mosaic=True))
    (scene,) = Scenes(samples, SIZE, threads=1).altered([0], amounts, np.random.default_rng(0))

    quarters = [scene.canvas[y : y + 48, x : x + 48] for x in (0, 48) for y in (0, 48)]
    assert all(float(quarter.std()) > 5 for quarter in quarters)
    assert len(scene.class_ids) > max(len(sample.class_ids) for sample in samples[:1])


def test_nothing_is_altered_where_all_is_declared_to_be_nothing(samples: list[Sample]) -> None:
    plain = Scenes(samples, SIZE, threads=1).plain(range(len(samples)))

    for one, other in zip(altered(samples, declared(), times=1), plain, strict=True):
        assert np.array_equal(one.canvas, other.canvas)
        assert np.array_equal(one.masks, other.masks)


def test_the_same_numbers_alter_an_image_in_the_same_way_however_many_threads_work(samples: list[Sample]) -> None:
    amounts = scenes.amounts(declared(rotate=90, blur=50, color={"hue": 10}), Hyperparameters())
    one, other = (
        Scenes(samples, SIZE, threads).altered([2, 0, 1], amounts, np.random.default_rng(5)) for threads in (1, 3)
    )

    assert all(
        np.array_equal(a.canvas, b.canvas) and np.array_equal(a.masks, b.masks) for a, b in zip(one, other, strict=True)
    )


def test_masks_are_those_of_the_annotations_at_the_size_of_the_canvas(samples: list[Sample]) -> None:
    (scene,) = Scenes(samples[:1], SIZE, threads=1).plain([0])

    # 96 x 72 pixels on a canvas of 96: not scaled, 12 rows further down.
    for mask, shape in zip(scene.masks, samples[0].shapes, strict=True):
        assert np.array_equal(mask[12:84].astype(bool), masks.drawn(shape, 96, 72))
        assert not mask[:12].any()


def test_masks_with_holes_and_in_parts_keep_them(samples: list[Sample]) -> None:
    pixels: Any = np.zeros((72, 96), np.uint8)
    cv2.circle(pixels, (30, 36), 20, 1, -1)
    cv2.circle(pixels, (30, 36), 8, 0, -1)
    pixels[10:20, 70:90] = 1
    ring = masks.of_array("disc", pixels)
    frame = shapes.polygon("disc", (60, 40, 90, 40, 90, 70, 60, 70), holes=[(70, 50, 80, 50, 80, 60, 70, 60)])
    sample = replace(samples[0], class_ids=np.zeros(2, int), shapes=(ring, frame))

    (scene,) = Scenes([sample], SIZE, threads=1).plain([0])

    assert iou(scene.masks[0, 12:84].astype(bool), pixels.astype(bool)) > 0.95
    assert not scene.masks[0, 48, 30]
    assert iou(scene.masks[1, 12:84].astype(bool), masks.drawn(frame, 96, 72)) == 1


def test_an_object_of_which_little_is_left_is_left_out(samples: list[Sample]) -> None:
    sample = replace(samples[0], class_ids=np.zeros(1, int), shapes=(shapes.rectangle("disc", 0, 0, 8, 8),))
    found = altered([sample], declared(translate=50), times=40)

    seen = [len(scene.class_ids) for scene in found]
    assert {0, 1} == set(seen)
    assert all(scene.masks.any() for scene in found if len(scene.class_ids))


def test_an_image_without_objects_has_none(samples: list[Sample], tmp_path: Path) -> None:
    sample = replace(samples[0], class_ids=np.zeros(0, int), shapes=())
    (scene,) = Scenes([sample], SIZE, threads=1).plain([0])

    assert (scene.boxes.shape, scene.class_ids.shape, scene.masks.shape) == ((0, 4), (0,), (0, SIZE, SIZE))


def test_a_crowd_is_nothing_to_learn(samples: list[Sample]) -> None:
    crowded = replace(samples[0], crowds=(shapes.rectangle("disc", 0, 0, 40, 40),), crowd_ids=(0,))
    (with_crowd,), (without,) = (Scenes([one], SIZE, threads=1).plain([0]) for one in (crowded, samples[0]))

    assert np.array_equal(with_crowd.boxes, without.boxes)
    assert np.array_equal(with_crowd.masks, without.masks)
