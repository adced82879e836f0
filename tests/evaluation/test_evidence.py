"""Metrics computed from evidence equal the evaluation's, for every task and any multiset of images; the file is bounded."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib import pyplot as plt

from pelagos_contract import run_lengths
from pelagos_contract.metrics import TEST
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.shapes import Shape, rectangle
from pelagos_pipelines.evaluation import classification, detection, drawn_truth, evidence, examples, figures
from pelagos_pipelines.evaluation.counting import classes
from pelagos_pipelines.evaluation.evidence import Evidence, EvidenceError
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import mean
from pelagos_pipelines.evaluation.tasks import TASKS
from pelagos_pipelines.serving.maps import NumberMap
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.serving.tasks.instance_segmentation import Instances
from pelagos_pipelines.serving.tasks.oriented_detection import OrientedDetections
from pelagos_pipelines.serving.tasks.panoptic_segmentation import Segments
from pelagos_pipelines.serving.tasks.semantic_segmentation import ClassMap

LABELS = ("cod", "$x_1$ & <b>", "sand", "never true")
WIDTH, HEIGHT = 60, 40
VERSION = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "image.png"
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return path


def make_boxes(generator: np.random.Generator, count: int) -> Any:
    corners = generator.uniform((0, 0), (35, 20), (count, 2))
    return np.concatenate((corners, corners + generator.uniform(5, 20, (count, 2))), axis=1)


def make_guesses(generator: np.random.Generator, truth: Any, ids: Any) -> tuple[Any, Any, Any]:
    """Detections of the true boxes: shifted, missed, confused and invented. Scores tie between images, but not within one."""
    kept = generator.random(len(ids)) < 0.85
    moved = truth[kept] + generator.normal(0, 1.2, (int(kept.sum()), 4))
    boxes = np.concatenate((moved, make_boxes(generator, 3)))
    classes = np.concatenate((ids[kept], generator.integers(0, len(LABELS), 3)))
    classes = np.where(generator.random(len(classes)) < 0.9, classes, generator.integers(0, len(LABELS), len(classes)))
    scores = np.sort(generator.choice(np.arange(1, 41) / 40, len(classes), replace=False))[::-1]
    return boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int32)


def of_objects(task: Task, images: int, seed: int, file: Path) -> tuple[list[Sample], list[Any]]:
    generator = np.random.default_rng(seed)
    samples: list[Sample] = []
    found: list[Any] = []
    for number in range(images):
        count = int(generator.integers(0, 8))
        truth, ids = make_boxes(generator, count), generator.integers(0, len(LABELS) - 1, count)
        boxes, scores, classes = make_guesses(generator, truth, ids)
        shapes: list[Shape] = []
        if task is Task.DETECTION:
            found.append(Detections(WIDTH, HEIGHT, boxes, scores, classes))
        elif task is Task.ORIENTED_DETECTION:
            shapes = [turned(LABELS[label], box) for label, box in zip(ids, truth, strict=True)]
            middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            angles = 15 + generator.normal(0, 5, (len(boxes), 1))
            turns = np.concatenate((middles, np.abs(sides), angles), axis=1).astype(np.float32)
            found.append(OrientedDetections(WIDTH, HEIGHT, turns, scores, classes))
        else:
            shapes = [covering(LABELS[label], box) for label, box in zip(ids, truth, strict=True)]
            texts = [
                run_lengths.encoded(masks.part_of(covering("x", box), WIDTH, HEIGHT), (HEIGHT, WIDTH)) for box in boxes
            ]
            found.append(Instances(WIDTH, HEIGHT, boxes, scores, classes, tuple(texts)))
        samples.append(Sample(f"{number}.png", file, ids, truth, shapes=shapes))
    return [crowded(task, sample, seed) for sample in samples], found


def crowded(task: Task, sample: Sample, seed: int) -> Sample:
    """The sample with random crowd regions, in which detections of the class are ignored."""
    generator = np.random.default_rng([seed, int(sample.name.partition(".")[0])])
    ids = generator.integers(0, len(LABELS), generator.integers(0, 2) * 3)
    corners = make_boxes(generator, len(ids))
    drawn = {Task.DETECTION: upright, Task.ORIENTED_DETECTION: turned}.get(task, covering)
    wider = corners + np.array([-8, -8, 8, 8])
    crowds = [drawn(LABELS[label], box) for label, box in zip(ids, wider, strict=True)]
    return replace(sample, crowds=crowds, crowd_ids=ids.tolist())


def upright(label: str, box: Any) -> Shape:
    return replace(turned(label, box), coordinates=(*turned(label, box).coordinates[:4], 0.0))


def turned(label: str, box: Any) -> Shape:
    x1, y1, x2, y2 = (float(side) for side in box)
    return rectangle(label, x1, y1, x2 - x1, y2 - y1, 15.0)


def covering(label: str, box: Any) -> Shape:
    left, top, right, bottom = np.clip(np.round(box), 0, (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(int)
    inside: Any = np.ones((max(bottom - top, 1), max(right - left, 1)), bool)
    return masks.of_array(label, inside, (int(left), int(top)))


def of_classes(images: int, seed: int, file: Path) -> tuple[list[Sample], list[Any]]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, len(LABELS) - 1, images)
    chances = generator.dirichlet(np.ones(len(LABELS)), images) + 0.5 * np.eye(len(LABELS))[truth]
    found = [Classification(WIDTH, HEIGHT, (row / row.sum()).astype(np.float32)) for row in chances]
    return [Sample(f"{n}.png", file, np.array([label]), np.zeros((0, 4))) for n, label in enumerate(truth)], found


def of_areas(task: Task, images: int, seed: int, file: Path) -> tuple[list[Sample], list[Any]]:
    """Samples and predictions for tasks that label pixels. The segments of the last annotated class are stuff in all images."""
    generator = np.random.default_rng(seed)
    samples: list[Sample] = []
    found: list[Any] = []
    for number in range(images):
        count = int(generator.integers(0, 6))
        ids = generator.integers(0, len(LABELS) - 1, count)
        shapes = [
            replace(covering(LABELS[label], box), attributes={"isthing": "false"} if label == 2 else {})
            for label, box in zip(ids, make_boxes(generator, count), strict=True)
        ]
        sample = Sample(f"{number}.png", file, ids, np.zeros((0, 4)), shapes=shapes)
        if task is Task.PANOPTIC_SEGMENTATION and number % 2 and count:
            # The region is a crowd instead of an object, at the place where the segment is found.
            sample = replace(
                sample, shapes=shapes[1:], class_ids=ids[1:], crowds=shapes[:1], crowd_ids=ids[:1].tolist()
            )
        drawn = drawn_truth.segments(shapes, ids, (WIDTH, HEIGHT), {2})
        rolled = np.roll(drawn.pixels, tuple(generator.integers(-1, 2, 2)), axis=(0, 1))
        others = np.where(generator.random(len(drawn.class_ids)) < 0.8, drawn.class_ids, 3).astype(np.int32)
        numbers, guessed = np.unique(rolled, return_inverse=True)
        kept = numbers[numbers > 0]
        pixels = guessed.reshape(rolled.shape) + (0 if numbers[0] == 0 else 1)
        classes = others[kept - 1]
        samples.append(sample)
        if task is Task.SEMANTIC_SEGMENTATION:
            found.append(ClassMap(WIDTH, HEIGHT, NumberMap.of(np.concatenate(([0], classes + 1))[pixels])))
        else:
            scores: Any = np.full(len(classes), 0.9, np.float32)
            things = tuple(label != 2 for label in classes)
            found.append(Segments(WIDTH, HEIGHT, NumberMap.of(pixels), scores, classes, things))
    return samples, found


def make(task: Task, images: int, seed: int, file: Path) -> tuple[list[Sample], list[Any]]:
    if task is Task.CLASSIFICATION:
        return of_classes(images, seed, file)
    if task in {Task.SEMANTIC_SEGMENTATION, Task.PANOPTIC_SEGMENTATION}:
        return of_areas(task, images, seed, file)
    return of_objects(task, images, seed, file)


def collected(task: Task, file: Path, images: int = 12, seed: int = 0) -> Evidence:
    samples, found = make(task, images, seed, file)
    return evidence.collect(task, samples, found, LABELS, VERSION, {"site": ["a", None] * (images // 2)})


@pytest.mark.parametrize("task", Task)
def test_metrics_of_evidence_are_those_of_the_evaluation(
    task: Task, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing takes most of the time and does not affect metrics.
    monkeypatch.setattr(examples, "sheets", lambda *_: None)
    monkeypatch.setattr(figures, "save", lambda figure, _: plt.close(figure))
    samples, found = make(task, 12, 1, file)
    evidence_of = evidence.collect(task, samples, found, LABELS, VERSION, {})
    generator = np.random.default_rng(2)
    weights = generator.integers(0, 4, (4, len(samples)))
    weights[0], weights[1, 1:] = 1, 0
    weights[1, 0] = 1
    counted = evidence.counted(evidence_of, weights)

    for number, times in enumerate(weights):
        chosen: Any = np.repeat(np.arange(len(samples)), times)
        measured = TASKS.named(task).measure([samples[i] for i in chosen], [found[i] for i in chosen], LABELS, tmp_path)
        want = {name.removeprefix(TEST): value for name, value in measured.items() if name.count("/") == 1}
        got = {name: float(values[number]) for name, values in counted.items()}
        assert got == pytest.approx(want, abs=1e-9, nan_ok=True)
    assert sum(math.isfinite(values[0]) for values in counted.values()) > 2
    if any(sample.crowds for sample in samples):
        plain = [replace(sample, crowds=(), crowd_ids=()) for sample in samples]
        of_plain = evidence.collect(task, plain, found, LABELS, VERSION, {})
        without = evidence.counted(of_plain, weights[:1])
        better = {name for name, values in without.items() if counted[name][0] > values[0] + 1e-9}
        assert better & {"mAP50", "PQ"}, "what lies in a crowd is not wrong"
        assert of_plain.test != evidence_of.test, "other truth"


def test_the_top_5_of_evidence_is_that_of_the_evaluation() -> None:
    generator = np.random.default_rng(0)
    truth, chances = generator.integers(0, 9, 40), generator.integers(0, 4, (40, 9)) / 4
    weights = generator.integers(0, 3, (3, 40))
    count = classes.counter(classes.guesses(truth, chances), 40, 9)
    want = [classification.top5(np.repeat(truth, row), np.repeat(chances, row, axis=0)) for row in weights]
    assert count(weights)["top5"] == pytest.approx(want)


@pytest.mark.parametrize("task", Task)
def test_a_multiset_without_images_says_nothing(task: Task, file: Path) -> None:
    found = evidence.counted(collected(task, file), np.zeros((1, 12), int))
    assert all(np.isnan(values).all() for values in found.values())


def test_a_recall_that_equals_a_point_counts_as_the_evaluator_counts_it() -> None:
    """Rounding: 29 of 100 objects give a fraction below the evaluator's recall point 0.29; other counts give the exact point."""
    for right in (7, 14, 29, 50, 57, 58):
        samples = [
            Sample("a", Path("a"), np.zeros(100, int), np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(100)]))
        ]
        boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(right)], np.float32)
        scores = np.linspace(0.9, 0.5, right).astype(np.float32)
        found = [Detections(3000, 40, boxes, scores, np.zeros(right, np.int32))]
        got = evidence.counted(evidence.collect(Task.DETECTION, samples, found, LABELS, VERSION, {}), np.ones((1, 1)))
        assert got["mAP50"][0] == pytest.approx(mean(detection.score(samples, found, len(LABELS)).map50), abs=1e-12)


@pytest.mark.parametrize("task", Task)
def test_what_was_written_is_read(task: Task, file: Path, tmp_path: Path) -> None:
    found = collected(task, file)
    digest = evidence.write(found, tmp_path / evidence.NAME)
    again = evidence.write(found, tmp_path / "again.npz")
    read = evidence.read(tmp_path / evidence.NAME, digest)

    assert digest == again == f"sha256:{hashlib.sha256((tmp_path / evidence.NAME).read_bytes()).hexdigest()}"
    assert (read.task, read.labels, read.version, read.test) == (found.task, found.labels, VERSION, found.test)
    assert (read.images, read.fields) == (found.images, found.fields)
    ones: Any = np.ones((1, 12), int)
    want = {name: float(values[0]) for name, values in evidence.counted(found, ones).items()}
    got = {name: float(values[0]) for name, values in evidence.counted(read, ones).items()}
    assert got == pytest.approx(want, abs=0, nan_ok=True)


def test_another_file_than_the_one_that_is_asked_for_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / evidence.NAME
    evidence.write(collected(Task.DETECTION, file), path)
    with pytest.raises(EvidenceError, match="its SHA-256 is not"):
        evidence.read(path, VERSION)


def test_an_archive_of_many_files_is_refused_before_its_directory_is_read(tmp_path: Path) -> None:
    path = tmp_path / evidence.NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1", b"")
    # A directory with two million entries, each a copy of the real one.
    content = path.read_bytes()
    entry = content[content.index(b"PK\x01\x02") : content.index(b"PK\x05\x06")]
    end = content[content.index(b"PK\x05\x06") :]
    listed = entry * 2_000_000
    path.write_bytes(listed + end[:12] + len(listed).to_bytes(4, "little") + bytes(6))
    tracemalloc.start()
    with pytest.raises(EvidenceError, match="an archive of more than 64 files"):
        evidence.read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.5 * evidence.LARGEST, "an object for each would take a gigabyte"


def altered(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in members.items():
            archive.writestr(each, content)


def with_header(**fields: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | fields).encode()


def array(values: object, kind: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values, kind), allow_pickle=True)
    return stream.getvalue()


def lying(content: bytes) -> bytes:
    """An array whose header claims many more rows than it has."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<i4", "fortran_order": False, "shape": (10**12,)})
    return stream.getvalue() + content[-8:]


HOSTILE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "another form": (evidence.HEADER, with_header(form=2), "form 2"),
    "another task": (evidence.HEADER, with_header(task="Telepathy"), "no evidence"),
    "no object": (evidence.HEADER, lambda _: b"[]", "no evidence"),
    "deep nesting": (evidence.HEADER, lambda _: b"[" * 100_000, "no evidence"),
    "names that are no texts": (evidence.HEADER, with_header(images=[1] * 12), "names"),
    "numbers of objects that are none": (evidence.HEADER, with_header(objects=[-1] * 12), "its objects"),
    "too few values": (evidence.HEADER, with_header(fields={"site": ["a"]}), "for each image"),
    "fewer images than rows point at": (
        evidence.HEADER,
        with_header(images=["a"], objects=[1], fields={}),
        "points at",
    ),
    "an object array": ("found.image.npy", lambda _: array([{"a": 1}], "O"), "another type"),
    "another type": ("found.score.npy", lambda _: array([1], "<i4"), "another type"),
    "a shape that is not there": ("found.image.npy", lying, "another type or size"),
    "columns of other lengths": ("found.score.npy", lambda _: array([0.5], "<f8"), "not equally long"),
    "no number": ("found.score.npy", lambda content: content[:-8] + b"\xff" * 8, "cannot be"),
    "a negative index": ("found.class.npy", lambda content: content[:-4] + b"\xff" * 4, "cannot be"),
    "a class that is none": ("found.class.npy", lambda content: content[:-4] + b"\x7f\0\0\0", "points at"),
    "no array": ("found.score.npy", lambda _: b"pickle", "no evidence"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_strangers_file_is_refused(case: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / evidence.NAME
    evidence.write(collected(Task.DETECTION, file), path)
    member, change, words = HOSTILE[case]
    altered(path, member, change)
    with pytest.raises(EvidenceError, match=words):
        evidence.read(path)


def test_an_archive_that_unpacks_to_too_much_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / evidence.NAME
    evidence.write(collected(Task.DETECTION, file), path)
    altered(path, "found.score.npy", lambda _: bytes(4_000_000))
    monkeypatch.setattr(evidence, "LARGEST_UNPACKED", 1_000_000)
    with pytest.raises(EvidenceError, match="unpacks to more than"):
        evidence.read(path)


@pytest.mark.parametrize("length", [0, 10, 500, -30])
def test_a_file_that_is_cut_short_is_refused(length: int, file: Path, tmp_path: Path) -> None:
    path = tmp_path / evidence.NAME
    evidence.write(collected(Task.DETECTION, file), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(EvidenceError, match="no evidence"):
        evidence.read(path)


def test_more_than_readers_take_is_not_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LARGEST_UNPACKED", 1000)
    with pytest.raises(EvidenceError, match="more than is kept"):
        evidence.write(collected(Task.DETECTION, file), tmp_path / evidence.NAME)
    assert not list(tmp_path.iterdir())


def test_what_readers_would_refuse_is_not_written(file: Path, tmp_path: Path) -> None:
    found = collected(Task.DETECTION, file)
    for changes in (
        {"fields": {"group": ("x" * 5000,) * 12}},
        {"images": ("y" * 5000,) * 12},
        {"labels": ("z",) * 20_001},
    ):
        with pytest.raises(EvidenceError, match=r"names than texts|a text or null"):
            evidence.write(replace(found, **changes), tmp_path / evidence.NAME)
    assert not list(tmp_path.iterdir())


def test_what_a_broken_model_says_is_not_written(file: Path, tmp_path: Path) -> None:
    samples, found = make(Task.CLASSIFICATION, 12, 0, file)
    found[3] = replace(found[3], probabilities=np.full(len(LABELS), np.nan, np.float32))
    broken = evidence.collect(Task.CLASSIFICATION, samples, found, LABELS, VERSION, {})
    with pytest.raises(EvidenceError, match=r"guesses\.confidence has a value that cannot be"):
        evidence.write(broken, tmp_path / evidence.NAME)
    assert not list(tmp_path.iterdir())


def test_at_a_pipe_nobody_waits_for_evidence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / evidence.NAME)
    with pytest.raises(EvidenceError, match="it is no file"):
        evidence.read(tmp_path / evidence.NAME)


def test_equal_questions_have_an_equal_digest(file: Path) -> None:
    samples, _ = make(Task.ORIENTED_DETECTION, 4, 0, file)
    other = [*samples[:-1], replace(samples[-1], sha256="1" * 64)]
    assert evidence.digest_of(samples, LABELS) == evidence.digest_of(list(samples), LABELS)
    assert len({evidence.digest_of(each, LABELS) for each in (samples, other, samples[:-1])}) == 3
    assert evidence.digest_of(samples, LABELS[:-1]) != evidence.digest_of(samples, LABELS)


def test_many_classes_take_little_memory() -> None:
    """A hundred classes on few images. Curves over a thousand confidences for each of many multisets would take gigabytes."""
    generator = np.random.default_rng(0)
    samples, found = [], []
    for number in range(30):
        boxes, ids = make_boxes(generator, 10), generator.integers(0, 100, 10)
        samples.append(Sample(f"{number}.png", Path("x"), ids, boxes))
        scores = np.sort(generator.random(10).astype(np.float32))[::-1]
        found.append(Detections(WIDTH, HEIGHT, boxes.astype(np.float32), scores, ids.astype(np.int32)))
    labels = [str(number) for number in range(100)]
    made = evidence.collect(Task.DETECTION, samples, found, labels, VERSION, {})
    weights = generator.multinomial(30, [1 / 30] * 30, 150)
    tracemalloc.start()
    try:
        counted = evidence.counted(made, weights)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.isfinite(counted["mAP50"]).all()
    assert most < 100 * 2**20
