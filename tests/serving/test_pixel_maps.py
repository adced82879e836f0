"""Maps of pixels: kept as runs, returned as COCO masks and PNG; and how a network's maps become pixels of the original."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from pelagos_pipelines.serving import maps, tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.maps import NumberMap
from pelagos_pipelines.serving.predictions import Settings, Thresholds
from pelagos_pipelines.serving.tasks.panoptic_segmentation import Segments
from pelagos_pipelines.serving.tasks.semantic_segmentation import ClassMap

LABELS = ("cod", "sand", "kelp")
SEMANTIC, PANOPTIC = tasks.named("SemanticSegmentation"), tasks.named("PanopticSegmentation")
SIDE = 32


def settings(task: str = "PanopticSegmentation", **changes: Any) -> Settings:
    return Settings(task, LABELS, SIDE, SIDE, **changes)


def random_map(height: int, width: int, numbers: int, seed: int = 0) -> Any:
    coarse = np.random.default_rng(seed).integers(0, numbers, (5, 7), np.int32)
    return cv2.resize(coarse.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("numbers", [1, 2, 4, 400])
def test_a_map_is_what_it_was_with_its_areas_masks_and_picture(numbers: int) -> None:
    pixels = random_map(40, 61, numbers)
    found = NumberMap.of(pixels)

    assert np.array_equal(found.pixels, pixels)
    assert found.areas == {number: int((pixels == number).sum()) for number in np.unique(pixels)}
    for number in (0, 1, numbers - 1, 70_000):
        told = found.mask(number)
        assert np.array_equal(coco.decode({**told, "counts": told["counts"].encode()}), pixels == number)
    picture = cv2.imdecode(np.frombuffer(found.picture(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(picture, pixels)
    assert picture.dtype == (np.uint16 if pixels.max() > 255 else np.uint8)


def test_thousands_of_maps_fit_in_memory() -> None:
    found = NumberMap.of(random_map(1500, 2000, 4))
    assert found.starts.nbytes + found.numbers.nbytes < 1_000_000


def fitted(width: int, height: int) -> Fitted:
    return SEMANTIC.fitted(np.zeros((height, width, 3), np.uint8), SIDE, SIDE)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (90, 30), (10, 31), (32, 32)])
def test_classes_are_where_they_are_in_the_original(width: int, height: int) -> None:
    """The network is perfect: its map is the original on the canvas, in cells of 4 x 4 pixels."""
    true: Any = np.zeros((height, width), np.float32)
    true[: height // 2, : width // 2] = 1
    image = SEMANTIC.fitted(np.repeat(true[..., None] * 255, 3, axis=2).astype(np.uint8), SIDE, SIDE)
    cells = cv2.resize(image.canvas[..., 0].astype(np.float32) / 255, (8, 8), interpolation=cv2.INTER_AREA)
    raw = np.stack([cells, np.zeros_like(cells), np.zeros_like(cells), 1 - cells])
    found = SEMANTIC.decode(raw, image, settings("SemanticSegmentation"), Thresholds())

    assert isinstance(found, ClassMap)
    assert (found.width, found.height) == (width, height)
    wrong = (found.classes.pixels != true).mean()
    # The resolution of a cell: half a cell on each side of both edges.
    assert wrong < 2 / 8 * max(1, max(width, height) / min(width, height)) / 2


def test_bands_of_an_original_are_what_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    raw, image = generator.random((4, 8, 8), np.float32), fitted(50, 70)
    whole = SEMANTIC.decode(raw, image, settings("SemanticSegmentation"), Thresholds())
    masks = generator.random((9, 8, 8), np.float32), generator.dirichlet(np.ones(4), 9).astype(np.float32)
    several = PANOPTIC.decode((masks[1], masks[0]), image, settings(), Thresholds(0.1))
    monkeypatch.setattr(maps, "BAND", 200)

    assert (SEMANTIC.decode(raw, image, settings("SemanticSegmentation"), Thresholds())).render(LABELS) == whole.render(
        LABELS
    )
    assert PANOPTIC.decode((masks[1], masks[0]), image, settings(), Thresholds(0.1)).render(LABELS) == several.render(
        LABELS
    )


def query(label: int, score: float, top: int, bottom: int, mask: float = 0.9) -> tuple[Any, Any]:
    """A query whose mask covers the rows of cells from ``top`` to ``bottom``."""
    classes: Any = np.full(4, (1 - score) / 3, np.float32)
    classes[label] = score
    cells: Any = np.full((8, 8), 0.1, np.float32)
    cells[top:bottom] = mask
    return classes, cells


def segmented(*queries: tuple[Any, Any], thresholds: Thresholds | None = None, **changes: Any) -> Segments:
    raw = np.stack([one for one, _ in queries]), np.stack([other for _, other in queries])
    found = PANOPTIC.decode(raw, fitted(SIDE, SIDE), settings(**changes), thresholds or Thresholds())
    assert isinstance(found, Segments)
    return found


def test_segments_share_the_pixels() -> None:
    found = segmented(query(0, 0.9, 0, 4), query(1, 0.8, 4, 8), query(2, 0.2, 0, 8), query(3, 0.95, 0, 8))

    assert found.class_ids.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    areas = found.segments.areas
    assert areas[1] + areas[2] + areas.get(0, 0) == SIDE * SIDE
    rendered = found.render(LABELS)
    assert [(one["id"], one["label"], one["isThing"]) for one in rendered["segments"]] == [
        (1, "cod", True),
        (2, "sand", True),
    ]
    assert rendered["unclassified"]["area"] == areas.get(0, 0)


def test_a_segment_that_others_cover_is_dropped() -> None:
    found = segmented(query(0, 0.9, 0, 6), query(0, 0.8, 0, 5), query(1, 0.7, 6, 8))
    assert found.class_ids.tolist() == [0, 1]


def test_a_class_without_objects_has_one_segment() -> None:
    rows = query(1, 0.9, 0, 3), query(1, 0.8, 5, 8), query(0, 0.7, 3, 5)
    assert segmented(*rows).class_ids.tolist() == [1, 1, 0]
    joined = segmented(*rows, stuff=("sand",))
    assert joined.class_ids.tolist() == [1, 0]
    assert joined.are_things == (False, True)
    assert joined.segments.areas[1] > 0.6 * SIDE * SIDE


def test_only_the_best_segments_are_kept_and_it_says_so() -> None:
    found = segmented(query(0, 0.9, 0, 4), query(1, 0.8, 4, 8), thresholds=Thresholds(max_detections=1))
    assert found.class_ids.tolist() == [0]
    assert found.is_cut


def test_a_batch_with_a_refused_image_and_one_without_segments_has_rows() -> None:
    nothing = segmented(query(3, 0.9, 0, 8))
    some = segmented(query(0, 0.9, 0, 4))
    tensors = PANOPTIC.tensors([some, None, nothing], LABELS)
    assert tensors["count"].tolist() == [[1], [0], [0]]
    assert tensors["scores"].shape == tensors["areas"].shape == (3, 1)
    assert tensors["segment_map"][1, 0] == b""
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(tensors["segment_map"][0, 0]), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert np.array_equal(picture, some.segments.pixels)
    found = ClassMap(4, 2, NumberMap.of(np.array([[0, 1, 1, 3], [0, 1, 1, 3]])))
    told = SEMANTIC.tensors([found, None], LABELS)
    assert told["areas"].tolist() == [[4, 0, 2], [0, 0, 0]]
    assert SEMANTIC.refused("no image")["classes"] == PANOPTIC.refused("no image")["segments"] == []


def test_masks_beyond_the_room_of_an_answer_are_left_out_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ClassMap(30, 20, NumberMap.of(random_map(20, 30, 4)))
    assert not found.render(LABELS)["cut"]
    monkeypatch.setattr(maps, "MOST_TOLD", len(found.render(LABELS)["classes"][0]["mask"]["counts"]))
    rendered = found.render(LABELS)
    assert rendered["cut"]
    assert ["mask" in one for one in rendered["classes"]] == [True, False, False]


def test_a_large_original_with_many_segments_takes_seconds_at_most() -> None:
    queries = [query(index % 3, 0.5 + index / 1000, index % 7, index % 7 + 2) for index in range(100)]
    raw = np.stack([one for one, _ in queries]), np.stack([other for _, other in queries])
    image = replace(fitted(SIDE, SIDE), width=1200, height=1200, reduced=(SIDE, SIDE))
    begun = time.process_time()
    PANOPTIC.decode(raw, image, settings(), Thresholds())
    assert time.process_time() - begun < 5


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_objects_of_the_same_queries_have_masks_that_may_overlap() -> None:
    """Each pair of a query and a class above the threshold counts, and the score includes the mask's own confidence."""
    head = tasks.named("InstanceSegmentation", "mask2former")
    queries = query(0, 0.9, 0, 4), query(0, 0.8, 2, 6, mask=0.7), query(3, 0.9, 0, 8)
    raw = np.stack([one for one, _ in queries]), np.stack([other for _, other in queries])
    found: Any = head.decode(raw, fitted(64, 64), settings("InstanceSegmentation", head="mask2former"), Thresholds())

    assert found.class_ids.tolist() == [0, 0]
    assert found.scores.tolist() == pytest.approx([0.9 * 0.9, 0.8 * 0.7])
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 64, 32], abs=4)
    assert found.boxes[1].tolist() == pytest.approx([0, 16, 64, 48], abs=4)
    for box, mask in zip(found.boxes, found.render(LABELS)["instances"], strict=True):
        inside = coco.decode({"size": [64, 64], "counts": mask["mask"]["counts"].encode()})
        assert mask["area"] == inside.sum() == (box[3] - box[1]) * 64
    best: Any = head.decode(raw, fitted(64, 64), settings(), Thresholds(max_detections=1))
    assert len(best.scores) == 1
    assert best.cut
    nothing: Any = head.decode(raw, fitted(64, 64), settings(), Thresholds(0.95))
    assert nothing.render(LABELS)["instances"] == []
