"""Metrics of instance segmentation equal those of COCO's evaluator for the same masks, and figures show them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pelagos_contract import run_lengths
from pelagos_contract.run_lengths import Part
from pelagos_contract.tasks import TASKS as DESCRIPTIONS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.evaluation import detection, instances, report
from pelagos_pipelines.evaluation.detection import Scores
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.evaluation.shares import mean
from pelagos_pipelines.evaluation.tasks import TASKS
from pelagos_pipelines.serving.tasks.instance_segmentation import Instances

SIZE = (90, 120)
LABELS = ("alga", "copepod", "diatom")


def blob(generator: np.random.Generator, label: str, at: Any = None, radius: float = 0) -> Shape:
    """A polygon of any shape, sometimes with a hole, or a mask."""
    centre = generator.uniform((0, 0), (SIZE[1], SIZE[0])) if at is None else at
    size = radius or generator.uniform(4, 25)
    turns = np.sort(generator.uniform(0, 2 * math.pi, 9))
    reach = size * generator.uniform(0.5, 1, (9, 1))
    ring = centre + reach * np.stack((np.cos(turns), np.sin(turns)), axis=1)
    holes = [(centre + 0.3 * (ring - centre)).ravel().tolist()] if generator.random() < 0.3 else []
    drawn = shapes.polygon(label, ring.ravel().tolist(), holes=holes)
    if generator.random() < 0.3:
        return masks.of_outline(drawn, (SIZE[1], SIZE[0])) or drawn
    return drawn


def make_sample(name: str, drawn: list[Shape]) -> Sample:
    sides = [shape.sides for shape in drawn]
    corners = [(side[0], side[1], side[0] + side[2], side[1] + side[3]) for side in sides if side is not None]
    ids = np.array([LABELS.index(shape.label) for shape in drawn], int)
    return Sample(name, Path(name), ids, np.array(corners, float).reshape(-1, 4), shapes=drawn)


def make_found(drawn: list[Shape], scores: Any) -> Instances:
    order = np.argsort(-np.asarray(scores), kind="stable")
    sides = [drawn[place].sides or (0, 0, 0, 0) for place in order]
    texts = [run_lengths.encoded(masks.part_of(drawn[place], SIZE[1], SIZE[0]), SIZE) for place in order]
    boxes = [(x, y, x + width, y + height) for x, y, width, height in sides]
    ids = [LABELS.index(drawn[place].label) for place in order]
    return Instances(
        SIZE[1], SIZE[0], np.array(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32)[order],
        np.array(ids, np.int32), tuple(texts),
    )  # fmt: skip


def make_noisy(images: int, seed: int, most: int = 7) -> tuple[list[Sample], list[Instances]]:
    """Truth, which is empty in some images, and predictions that are shifted, missed, confused, invented, and tie."""
    generator = np.random.default_rng(seed)
    samples, found = [], []
    for number in range(images):
        truth = [blob(generator, LABELS[generator.integers(3)]) for _ in range(generator.integers(0, most))]
        guesses = [blob(generator, LABELS[generator.integers(3)]) for _ in range(generator.integers(0, 3))]
        for shape in truth:
            if generator.random() < 0.8:
                right, down = generator.integers(-2, 3, 2).tolist()
                moved = shapes.moved(shape, right, down) if shape.kind is shapes.Kind.POLYGON else shape
                label = LABELS[generator.integers(3)] if generator.random() < 0.15 else shape.label
                guesses.append(Shape(label, moved.kind, moved.coordinates, moved.rings))
        samples.append(make_sample(f"{number}.png", truth))
        found.append(make_found(guesses, generator.integers(1, 20, len(guesses)) / 20))
    return samples, found


def reference(samples: list[Sample], found: list[Instances]) -> Any:
    """Precision by COCO's own evaluator: ``[IoU, recall point, class]``."""
    truth: list[dict[str, Any]] = []
    guessed: list[dict[str, Any]] = []
    for image, (sample, predicted) in enumerate(zip(samples, found, strict=True)):
        drawn = zip([*sample.class_ids, *sample.crowd_ids], [*sample.shapes, *sample.crowds], strict=True)
        for number, (class_id, shape) in enumerate(drawn):
            (text,) = instances.masks_of([shape], SIZE)
            mask = {"size": list(SIZE), "counts": text.encode()}
            entry: dict[str, Any] = {"id": len(truth) + 1, "image_id": image, "category_id": int(class_id)}
            entry["iscrowd"] = int(number >= len(sample.class_ids))
            truth.append(
                entry | {"segmentation": mask, "area": int(coco.area(mask)), "bbox": coco.toBbox(mask).tolist()}
            )
        for class_id, score, text in zip(predicted.class_ids, predicted.scores, predicted.masks, strict=True):
            mask = {"size": list(SIZE), "counts": text.encode()}
            guessed.append(
                {"image_id": image, "category_id": int(class_id), "score": float(score), "segmentation": mask}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": image, "width": SIZE[1], "height": SIZE[0]} for image in range(len(samples))],
            "categories": [{"id": index, "name": name} for index, name in enumerate(LABELS)],
            "annotations": truth,
        }
        known.createIndex()
        evaluator = COCOeval(known, known.loadRes(guessed), "segm")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [10_000]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][:, :, :, 0, 0]


def score(samples: list[Sample], found: Sequence[Any]) -> Scores:
    return detection.score(samples, found, len(LABELS), instances.places_of(samples, found))


def with_crowds(samples: list[Sample], seed: int) -> list[Sample]:
    """The same samples, most of them with large crowd regions of any class."""
    generator = np.random.default_rng(seed)
    crowded = []
    for sample in samples:
        crowds = [blob(generator, LABELS[generator.integers(3)], radius=60) for _ in range(generator.integers(0, 3))]
        ids = [LABELS.index(crowd.label) for crowd in crowds]
        crowded.append(replace(sample, crowds=crowds, crowd_ids=ids))
    return crowded


@pytest.mark.parametrize(
    ("seed", "images", "most", "crowds"),
    [(0, 12, 7, False), (1, 3, 1, False), (2, 25, 4, False), (3, 2, 120, False), (4, 12, 7, True), (5, 2, 120, True)],
)
def test_average_precision_of_masks_is_that_of_cocos_evaluator(seed: int, images: int, most: int, crowds: bool) -> None:
    samples, found = make_noisy(images, seed, most)
    if crowds:
        without = reference(samples, found)
        samples = with_crowds(samples, seed)
        assert (reference(samples, found) != without).any(), "these crowds hold something"
    if not any(len(sample.class_ids) for sample in samples):
        samples[0] = make_sample("0.png", [shapes.polygon("alga", [1, 1, 30, 1, 30, 30])])
    want = reference(samples, found)

    got = score(samples, found)

    for metric, places in (("map50", 0), ("map75", 5), ("map50_95", slice(None))):
        theirs = want[places]
        assert mean(getattr(got, metric)) == pytest.approx(theirs[theirs > -1].mean(), abs=1e-9), metric
        for class_id in range(len(LABELS)):
            theirs = want[places, ..., class_id]
            ours = getattr(got, metric)[class_id]
            assert (np.isnan(ours) and (theirs == -1).all()) or ours == pytest.approx(theirs.mean(), abs=1e-9)


def test_iou_and_dice_are_means_over_what_was_found_right() -> None:
    square = shapes.polygon("alga", [10, 10, 30, 10, 30, 30, 10, 30])
    lower = shapes.polygon("alga", [10, 14, 30, 14, 30, 30, 10, 30])
    scores = score([make_sample("0", [square])], [make_found([lower], [0.9])])

    assert scores.shares["IoU"].macro == pytest.approx(0.8)
    assert scores.shares["Dice"].macro == pytest.approx(2 * 0.8 / 1.8)
    assert mean(scores.map75) == pytest.approx(1)
    assert mean(scores.map50_95) == pytest.approx(0.7)


def test_an_outline_has_the_pixels_whose_centre_lies_in_it_and_one_at_least() -> None:
    frame = shapes.polygon("alga", [2, 2, 8, 2, 8, 8, 2, 8], holes=[[4, 4, 6, 4, 6, 6, 4, 6]])
    speck = shapes.polygon("alga", [50.1, 20.1, 50.3, 20.1, 50.3, 20.3])
    beyond = shapes.polygon("alga", [115, 80, 140, 80, 140, 100, 115, 100])
    sample = make_sample("0", [frame, speck, beyond])

    assert [run_lengths.area(text, SIZE) for text in instances.true_masks(sample, SIZE)] == [32, 1, 50]
    assert run_lengths.part_of(instances.true_masks(sample, SIZE)[1], SIZE)[:2] == (50, 20)


def test_a_split_is_measured_by_all_that_the_task_promises_and_drawn(tmp_path: Path) -> None:
    samples, found = make_noisy(6, 5)
    for place, sample in enumerate(samples):
        file = tmp_path / sample.name
        file.write_bytes(cv2.imencode(".png", np.full((*SIZE, 3), 90, np.uint8))[1].tobytes())
        samples[place] = Sample(sample.name, file, sample.class_ids, sample.boxes, shapes=sample.shapes)

    measured = report.evaluate(samples, found, LABELS, tmp_path / "figures")

    described = DESCRIPTIONS[Task.INSTANCE_SEGMENTATION]
    want = {f"test/{name}" for name in (*described.metrics, *described.overall)}
    assert want <= measured.metrics.keys()
    assert {f"test/{name}/{label}" for name in described.metrics for label in LABELS} <= measured.metrics.keys()
    assert 0.3 < (measured.metrics["test/mAP50"] or 0) <= 1
    examples = cv2.imread(str(tmp_path / "figures" / "examples.png"))
    assert examples is not None
    colours = {tuple(colour) for colour in examples.reshape(-1, 3).tolist()}
    assert {(233, 180, 86), (0, 159, 230)} <= colours, "right masks have a blue outline, and wrong ones an orange one"


def test_a_large_object_in_a_large_image_is_compared_by_its_runs() -> None:
    size = (4000, 6000)
    square = shapes.polygon("alga", [100, 100, 3100, 100, 3100, 3100, 100, 3100])
    sample = make_sample("0", [square])
    text = run_lengths.encoded(Part(100, 1600, np.ones((1500, 3000), bool)), size)
    found = Instances(6000, 4000, np.array([[100, 1600, 3100, 3100]], np.float32), np.ones(1, np.float32),
                      np.zeros(1, np.int32), (text,))  # fmt: skip

    places = instances.places_of([sample], [found])
    (overlaps,) = places.overlaps([places.found(found)], [places.true(sample)])
    assert overlaps == pytest.approx(0.5)
    assert places.around(places.true(sample)[0]) == (100, 100, 3099, 3099)


def test_doubts_and_limits_are_those_of_boxes() -> None:
    strategy = TASKS.named("InstanceSegmentation")
    samples, found = make_noisy(8, 7)
    faint = [strategy.without_faint(one) for one in found]

    assert strategy.doubtful(samples, found, LABELS) == strategy.doubtful(samples, faint, LABELS)
    assert len(strategy.doubtful(samples, found, LABELS)) > 0


def test_a_reader_is_told_when_masks_take_more_than_an_answer_holds() -> None:
    strategy, (samples, found) = TASKS.named("InstanceSegmentation"), make_noisy(4, 7)
    truth = GroundTruth(LABELS, {"test": tuple(samples)})
    cut = [replace(one, cut=len(one.scores) > 0) for one in found]
    metrics = {"test/confidence": 0.01}
    crowded = max(len(one.scores) for one in found)

    assert strategy.limits(truth, found, metrics, 3000) == []
    (line,) = strategy.limits(truth, cut, metrics, 3000)
    assert line.startswith(
        f"in {sum(len(one.scores) > 0 for one in found)} of 4 images of the split test masks take more"
    )
    lines = strategy.limits(truth, [replace(one, cut=len(one.scores) >= crowded) for one in found], metrics, crowded)
    assert any(f"more than {crowded} objects are found" in line for line in lines)
