"""Masks equal those of ultralytics for the same outputs, take bounded work and space, and travel as runs from a real server."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from ultralytics.utils import ops

import build_packages
from pelagos.engines.triton import probe as model_probe
from pelagos_contract import run_lengths
from pelagos_contract.failures import RefusedError
from pelagos_contract.run_lengths import Part
from pelagos_pipelines.export import parity
from pelagos_pipelines.export.tasks import TASKS
from pelagos_pipelines.export.tasks.instance_segmentation import KNOWN_CHARACTERS
from pelagos_pipelines.serving import geometry, packages, tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Settings, Thresholds
from pelagos_pipelines.serving.tasks import detection, instance_segmentation
from pelagos_pipelines.serving.tasks.instance_segmentation import Candidates, Instances
from serving.conftest import Server

HEAD = cast("instance_segmentation.InstanceHead", tasks.named("InstanceSegmentation", "yolov8-seg"))
LABELS = ("alga", "copepod", "diatom")
SIZE = 128


def make_outputs(width: int, height: int, seed: int) -> tuple[Any, Any]:
    """Outputs as a network might give them for an image: candidates anywhere, and smooth prototypes."""
    generator = np.random.default_rng(seed)
    at = geometry.fit(width, height, SIZE, 32)
    grid = at.canvas_width // 4, at.canvas_height // 4
    coarse = generator.normal(size=(32, 6, 5)).astype(np.float32)
    prototypes = np.stack([cv2.resize(one, grid, interpolation=cv2.INTER_CUBIC) for one in coarse])
    candidates = generator.uniform(0, 1, (4 + len(LABELS) + 32, 150)).astype(np.float32)
    candidates[:4] *= np.array([at.canvas_width, at.canvas_height] * 2, np.float32)[:, None]
    candidates[4 + len(LABELS) :] = generator.normal(size=(32, 150))
    return candidates, prototypes


def decoded(width: int, height: int, seed: int = 0, **thresholds: Any) -> Instances:
    settings = Settings("InstanceSegmentation", LABELS, SIZE, 32, head="yolov8-seg")
    image = Fitted(np.zeros((1, 1, 3), np.uint8), width, height)
    found = HEAD.decode(
        make_outputs(width, height, seed), image, settings, Thresholds(**{"confidence": 0.3, **thresholds})
    )
    assert isinstance(found, Instances)
    return found


def whole(mask: str, size: tuple[int, int]) -> Any:
    found: Any = np.zeros(size, bool)
    left, top, inside = run_lengths.part_of(mask, size)
    found[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return found


@pytest.mark.parametrize("size", [(130, 100), (320, 240), (64, 200), (257, 33), (128, 128), (97, 61)], ids=str)
def test_masks_are_those_of_ultralytics_in_pixels_of_the_original(size: tuple[int, int]) -> None:
    width, height = size
    candidates, prototypes = make_outputs(width, height, seed=1)
    boxes, anchors = detection.with_anchors(
        candidates[: 4 + len(LABELS)], geometry.fit(width, height, SIZE, 32), size, Thresholds(0.3)
    )
    given = (prototypes, candidates[4 + len(LABELS) :, anchors].T, boxes.boxes)
    want = ops.process_mask_native(*map(torch.tensor, given), (height, width)).numpy() > 0

    found = decoded(width, height, seed=1)

    assert len(found.masks) == want.any(axis=(1, 2)).sum() > 20
    for mask, theirs in zip(found.masks, want[want.any(axis=(1, 2))], strict=True):
        ours = whole(mask, (height, width))
        assert (ours & theirs).sum() >= 0.99 * (ours | theirs).sum()


def test_masks_of_an_image_that_was_reduced_are_in_pixels_of_the_original() -> None:
    settings = Settings("InstanceSegmentation", LABELS, SIZE, 32, longest=160, head="yolov8-seg")
    outputs = make_outputs(160, 120, 0)
    canvas: Any = np.zeros((1, 1, 3), np.uint8)
    small, large = (
        HEAD.decode(outputs, Fitted(canvas, width, height, (160, 120)), settings, Thresholds(0.3))
        for width, height in ((160, 120), (640, 480))
    )

    assert isinstance(small, Instances)
    assert isinstance(large, Instances)
    # Masks of less than a pixel exist only at the original's size.
    large = large.chosen(np.isin(large.scores, small.scores))
    assert large.boxes == pytest.approx(4 * small.boxes, abs=1e-3)
    areas = [[run_lengths.area(mask, found.size) for mask in found.masks] for found in (small, large)]
    assert sum(areas[1]) == pytest.approx(16 * sum(areas[0]), rel=0.02)


def test_an_answer_has_area_and_runs_of_the_whole_image_and_typed_rows() -> None:
    found = decoded(130, 100)
    rendered = found.render(LABELS)

    assert (rendered["task"], rendered["width"], rendered["height"], rendered["cut"]) == (
        "InstanceSegmentation",
        130,
        100,
        False,
    )
    first = rendered["instances"][0]
    assert first.keys() == {"label", "classId", "score", "box", "mask", "area"}
    assert first["mask"] == {"size": [100, 130], "counts": found.masks[0]}
    assert first["area"] == whole(found.masks[0], (100, 130)).sum()
    tensors = HEAD.tensors([found, None], LABELS)
    count = len(found.masks)
    assert tensors["count"].tolist() == [[count], [0]]
    assert tensors["masks"].shape == (2, count)
    assert [mask.decode() for mask in tensors["masks"][0]] == list(found.masks)
    assert (tensors["mask_size"].tolist(), set(tensors["masks"][1])) == ([[100, 130], [0, 0]], {b""})


def test_objects_without_a_pixel_are_left_out_and_boxes_are_made_where_a_network_gives_none() -> None:
    image = Fitted(np.zeros((1, 1, 3), np.uint8), 20, 10)
    parts = [
        Part(3, 2, np.ones((4, 5), bool)),
        Part(0, 0, np.zeros((10, 20), bool)),
        Part(0, 0, np.eye(10, 20, dtype=bool)),
    ]
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 0, 2], np.int32)

    found = instance_segmentation.instances(image, Candidates(scores, classes), parts.__getitem__)

    assert (found.boxes.tolist(), found.class_ids.tolist(), found.cut) == (
        [[3, 2, 8, 6], [0, 0, 10, 10]],
        [1, 2],
        False,
    )


def test_what_is_beyond_the_limits_of_an_image_is_cut_and_the_best_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = decoded(320, 240)
    monkeypatch.setattr(instance_segmentation, "MASK_PIXELS", 0)
    assert (len(decoded(320, 240).masks), decoded(320, 240).cut) == (1, True)
    monkeypatch.setattr(instance_segmentation, "MASK_PIXELS", 2**28)
    monkeypatch.setattr(instance_segmentation, "MASK_CHARACTERS", sum(map(len, everything.masks[:7])))
    assert decoded(320, 240).masks == everything.masks[:7]
    assert decoded(320, 240).cut
    monkeypatch.undo()
    few = decoded(320, 240, max_detections=5)
    assert (few.masks, few.cut) == (everything.masks[: len(few.masks)], True)
    assert 3 <= len(few.masks) <= 5, "of those that are kept, some have no pixel"


def test_thousands_of_objects_in_a_large_image_take_seconds_at_most() -> None:
    image = Fitted(np.zeros((1, 1, 3), np.uint8), 6000, 4000)
    boxes = np.array([[x, y, x + 40, y + 30] for x in range(0, 6000, 120) for y in range(0, 4000, 80)], np.float32)
    found = Candidates(np.linspace(1, 0.5, len(boxes), dtype=np.float32), np.zeros(len(boxes), np.int32), boxes)
    disc: Any = np.add.outer((np.arange(30) - 15) ** 2, (np.arange(40) - 20) ** 2) < 200

    got = instance_segmentation.instances(
        image, found, lambda place: Part(int(boxes[place][0]), int(boxes[place][1]), disc)
    )

    assert (len(got.masks), got.cut) == (2500, False)
    assert sum(map(len, got.masks)) < instance_segmentation.MASK_CHARACTERS
    assert {each["area"] for each in got.render(("a",))["instances"]} == {disc.sum()}


def test_masks_without_a_pixel_are_work_that_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    image, made = Fitted(np.zeros((1, 1, 3), np.uint8), 20, 10), list[int]()
    boxes = np.array([[0, 0, 20, 10]] * 1000, np.float32)
    found = Candidates(np.linspace(1, 0.5, 1000, dtype=np.float32), np.zeros(1000, np.int32), boxes)
    monkeypatch.setattr(instance_segmentation, "MASK_PIXELS", 5 * 200)

    def part(place: int) -> Part:
        made.append(place)
        return Part(0, 0, np.zeros((10, 20), bool))

    got = instance_segmentation.instances(image, found, part)

    assert (len(made), got.masks, got.cut) == (5, (), True)


def test_an_image_of_one_long_line_takes_as_little_memory_as_it_has_pixels() -> None:
    decoded(320, 240)
    tracemalloc.start()
    try:
        found = decoded(300_000, 4, confidence=0.95)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (found.size, len(found.masks) > 0) == ((4, 300_000), True)
    assert most < 2**26


def test_masks_that_differ_are_no_parity_and_a_row_of_a_small_one_is() -> None:
    found = decoded(130, 100)
    part = run_lengths.part_of(found.masks[0], found.size)
    assert parity.compare([found], [found], 0.3).boxes == 0

    def altered(rows: slice) -> Instances:
        inside = part.inside.copy()
        inside[rows] = False
        mask = run_lengths.encoded(Part(part.left, part.top, inside), found.size)
        return Instances(130, 100, found.boxes, found.scores, found.class_ids, (mask, *found.masks[1:]))

    parity.compare([found], [altered(slice(0, 1))], 0.3)
    with pytest.raises(RefusedError, match="masks of an object have an IoU of 0"):
        parity.compare([found], [altered(slice(0, part.inside.shape[0] * 2 // 3))], 0.3)


def test_another_prototype_is_no_parity_before_suppression() -> None:
    outputs = make_outputs(130, 100, 0)
    shaken = outputs[0] * np.float32(1.0001), outputs[1] * np.float32(1.0001)
    parts: dict[str, Any] = {"task": "InstanceSegmentation", "head": "yolov8-seg", "labels": LABELS}
    parity.compare_outputs([outputs], [outputs], [shaken], **parts)
    wrong = outputs[0], outputs[1][[1, 0, *range(2, 32)]]
    with pytest.raises(RefusedError, match=r"prototype \d+ differs by"):
        parity.compare_outputs([outputs], [wrong], [wrong], **parts)


def test_a_known_answer_stays_small_enough_to_be_read() -> None:
    found = decoded(130, 100)
    boxes, scores = (np.repeat(each[:1], 3, axis=0) for each in (found.boxes, found.scores))
    ids = np.repeat(found.class_ids[:1], 3)
    many = Instances(130, 100, boxes, scores, ids, ("0" * (KNOWN_CHARACTERS // 2),) * 3)
    known = TASKS.named("InstanceSegmentation").known(many)
    assert (len(known.masks), known.cut, TASKS.named("InstanceSegmentation").known(found)) == (2, True, found)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build_packages.build(
        "InstanceSegmentation", build_packages.segmenter(), tmp_path_factory.mktemp("store"), "yolov8-seg"
    )
    return Path(made[0])


def test_a_server_answers_a_package_with_masks_and_its_probe_is_right(triton: Server, packaged: Path) -> None:
    triton.load(packaged, "segmenter")
    image = (packaged / packages.IMAGE).read_bytes()
    answer = triton.infer("segmenter", [image], raw=True)
    rendered, known = json.loads(answer["prediction"][0, 0]), model_probe.read(packaged)

    assert {key: rendered[key] for key in known.expected} == known.expected
    assert [each["area"] for each in rendered["instances"]] == [256, 256, 255, 247], "less some corners of dark ones"
    assert answer["masks"][0].tolist() == [each["mask"]["counts"] for each in rendered["instances"]]
    assert answer["mask_size"].tolist() == [[64, 64]]
    assert rendered["raw"].keys() == {"labels", "scores", "boxes", "best", "masks"}


def test_a_package_names_a_head_that_is_served(packaged: Path) -> None:
    text = (packaged / packages.DESCRIPTION).read_bytes()
    assert packages.describe(text, "here", None).head == "yolov8-seg"
    described = json.loads(text)
    for head in ("maskrcnn/../..", None, 3, ["yolov8-seg"]):
        with pytest.raises(
            packages.RefusedError, match="'head' of a package for InstanceSegmentation must be yolov8-seg"
        ):
            packages.describe(json.dumps({**described, "head": head}).encode(), "here", None)
    with pytest.raises(packages.RefusedError, match="'head' of a package for Detection must be None"):
        packages.describe(json.dumps({**described, "task": "Detection"}).encode(), "here", None)
