"""Trainings augment images as the dataset declares, by the family's defaults where it declares nothing."""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from pelagos_contract.augmentation import SHEET, Augmentation
from pelagos_contract.dataset import PreparationRequest
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.preparation.judging import kept
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.steps import train as train_step
from pelagos_pipelines.training import (
    augmentation_sheet,
    classifier_augmentation,
    classifiers,
    mobilenet_v3,
    yolov8,
    yolov8_augmentation,
    yolov8_trainer,
)
from pelagos_pipelines.training.altering import Examples
from training.shapes import make_request, make_truth, make_version
from training.test_balanced_training import make_job

NOTHING: Mapping[str, Any] = {
    "flipHorizontal": False,
    "flipVertical": False,
    "rotate": 0,
    "scale": 0,
    "translate": 0,
    "color": {"hue": 0, "saturation": 0, "brightness": 0, "contrast": 0},
    "blur": 0,
}
"""A declaration that switches off everything a family does by default."""


def declared(**changes: Any) -> Augmentation:
    color = NOTHING["color"] | changes.pop("color", {})
    return Augmentation.model_validate({**NOTHING, **changes, "color": color})


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("shapes"), (6, 3, 3), Task.DETECTION)


@pytest.fixture(scope="module")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One image of a classifier, repeated a hundred times, as the network receives it."""
    (sample,) = make_truth(tmp_path_factory.mktemp("shapes"), (1, 0, 0), Task.CLASSIFICATION).samples("train")
    return np.stack([geometry.square(sample.pixels(), 48)] * 100)


def altered(canvases: Any, seed: int = 1, **changes: Any) -> Any:
    """The canvases after the classifier's augmentation."""
    return classifier_augmentation.altered(canvases, declared(**changes), np.random.default_rng(seed))


def training_set(folder: Path, version: tuple[str, str], policy: Augmentation | None, **changes: Any) -> Any:
    """The detector's training dataset, and the arguments passed to ultralytics."""
    request = make_request("yolov8n", *version, **changes)
    job, history = make_job(folder, replace(ground_truth.read(request), augmentation=policy), request)
    trainer = yolov8_trainer.Trainer(yolov8._arguments(job), job, history, None, None)
    trainer.model = SimpleNamespace(stride=torch.tensor([32.0]))
    return trainer.build_dataset(trainer.data["train"], "train", 4), trainer.args


def pixels(item: Mapping[str, Any]) -> Any:
    return item["img"].numpy()


def test_a_detector_is_shown_half_of_the_images_upside_down_with_their_boxes(
    tmp_path: Path, version: tuple[str, str]
) -> None:
    plain, flipped = (
        training_set(tmp_path / str(flip), version, declared(flipVertical=flip))[0] for flip in (False, True)
    )
    usual = plain[0]
    found: Counter[str] = Counter()

    for _ in range(60):
        item = flipped[0]
        is_flipped = np.array_equal(pixels(item), pixels(usual)[:, ::-1])
        assert is_flipped or np.array_equal(pixels(item), pixels(usual))
        want = usual["bboxes"].numpy().copy()
        if is_flipped:
            want[:, 1] = 1 - want[:, 1]
        assert item["bboxes"].numpy() == pytest.approx(want, abs=1e-4)
        found["flipped" if is_flipped else "plain"] += 1
    assert min(found["flipped"], found["plain"]) >= 15


@pytest.mark.parametrize(
    ("changes", "argument", "value"),
    [
        ({"flipHorizontal": True}, "fliplr", 0.5),
        ({"flipVertical": True}, "flipud", 0.5),
        ({"rotate": 90}, "degrees", 90),
        ({"scale": 20}, "scale", 0.2),
        ({"translate": 30}, "translate", 0.3),
        ({"color": {"hue": 5}}, "hsv_h", 0.05),
        ({"color": {"saturation": 50}}, "hsv_s", 0.5),
        ({"color": {"brightness": 25}}, "hsv_v", 0.25),
        ({"mosaic": 40}, "mosaic", 0.4),
    ],
    ids=str,
)
def test_what_is_declared_reaches_ultralytics_and_the_rest_is_as_it_has_it(
    changes: dict[str, Any], argument: str, value: float
) -> None:
    policy = Augmentation.model_validate(changes)

    found = yolov8_augmentation.arguments(policy, Hyperparameters(epochs=30))

    want = {"mosaic": 0.0, "close_mosaic": 0} | {argument: value} | ({"close_mosaic": 3} if "mosaic" in changes else {})
    assert found == pytest.approx(want)


def test_without_a_declaration_ultralytics_is_told_what_it_always_was(tmp_path: Path, version: tuple[str, str]) -> None:
    dataset, settings = training_set(tmp_path, version, None)

    for argument in yolov8_augmentation.ARGUMENTS.values():
        want = 0.0 if argument == "mosaic" else DEFAULT_CFG_DICT[argument]
        assert getattr(settings, argument) == want, argument
    assert "_Camera" not in repr(dataset.transforms)


def test_a_training_run_that_asks_for_mosaics_goes_before_the_dataset() -> None:
    policy = Augmentation(mosaic=40)
    parameters = Hyperparameters(mosaic=True, epochs=30)

    assert yolov8_augmentation.arguments(policy, parameters)["mosaic"] == 1.0
    assert yolov8.FAMILY.applied(policy, parameters)["mosaic"] == "100 %, by hyperparameters.mosaic"
    assert yolov8.FAMILY.applied(policy, Hyperparameters())["mosaic"] == "40 %"


def test_contrast_and_blur_of_a_detector_outlast_the_closing_of_mosaics(
    tmp_path: Path, version: tuple[str, str]
) -> None:
    np.random.seed(1)
    shown = {}
    for name, changes in (("plain", {}), ("blur", {"blur": 100}), ("contrast", {"color": {"contrast": 50}})):
        dataset, settings = training_set(tmp_path / name, version, declared(mosaic=100, **changes))
        dataset.close_mosaic(settings)
        shown[name] = [pixels(dataset[0]).astype(float) for _ in range(20)]

    def edges(name: str) -> list[float]:
        return [float(np.abs(np.diff(one, axis=2)).mean()) for one in shown[name]]

    assert len(set(edges("plain"))) == 1
    assert max(edges("blur")) < 0.9 * edges("plain")[0]
    assert min(edges("contrast")) < 0.8 * edges("plain")[0]
    assert max(edges("contrast")) > 1.1 * edges("plain")[0]
    assert [one.mean() for one in shown["contrast"]] == pytest.approx([shown["plain"][0].mean()] * 20, abs=12)


def test_only_training_images_are_altered(tmp_path: Path, version: tuple[str, str]) -> None:
    request = make_request("yolov8n", *version)
    policy = declared(flipVertical=True, rotate=180, blur=100)
    job, history = make_job(tmp_path, replace(ground_truth.read(request), augmentation=policy), request)
    trainer = yolov8_trainer.Trainer(yolov8._arguments(job), job, history, None, None)
    trainer.model = SimpleNamespace(stride=torch.tensor([32.0]))

    dataset = trainer.build_dataset(trainer.data["val"], "val", 4)

    assert np.array_equal(pixels(dataset[0]), pixels(dataset[0]))
    assert "LetterBox" in repr(dataset.transforms)


def test_nothing_is_nothing_for_the_classifier(canvases: Any) -> None:
    assert np.array_equal(altered(canvases), canvases)


@pytest.mark.parametrize(("side", "axis"), [("Vertical", 1), ("Horizontal", 2)])
def test_a_classifier_is_shown_half_of_the_images_mirrored(canvases: Any, side: str, axis: int) -> None:
    found = altered(canvases, **{f"flip{side}": True})

    mirrored = np.flip(canvases, axis)
    flips = [np.array_equal(one, other) for one, other in zip(found, mirrored, strict=True)]
    assert sum(flips) in range(30, 71)
    assert all(flip or np.array_equal(one, usual) for flip, one, usual in zip(flips, found, canvases, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"rotate": 90},
        {"scale": 50},
        {"translate": 30},
        {"blur": 100},
        {"color": {"hue": 50}},
        {"color": {"saturation": 100}},
        {"color": {"brightness": 60}},
        {"color": {"contrast": 60}},
    ],
    ids=str,
)
def test_each_of_them_alters_an_image_of_the_classifier_by_the_seed(canvases: Any, changes: dict[str, Any]) -> None:
    few = canvases[:6]
    found = [altered(few, seed, **changes) for seed in (1, 1, 2)]

    assert found[0].dtype == np.uint8
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert all(not np.array_equal(one, few[0]) for one in found[0])


def test_geometry_of_the_classifier_stays_within_what_is_declared(canvases: Any) -> None:
    """Measures where a bright square in the middle of a black canvas ends up, and how large it is."""
    black: Any = np.zeros((60, 96, 96, 3), np.uint8)
    black[:, 32:64, 32:64] = 255

    def measured(**changes: Any) -> tuple[Any, Any]:
        found = altered(black, 3, **changes)[..., 0] / 255
        areas = found.sum((1, 2))
        places = np.stack([(found.sum(axis) * np.arange(96)).sum(1) / areas for axis in (2, 1)])
        return areas / 1024, (places - 47.5) / 96

    scales, _ = measured(scale=20)
    areas, moved = measured(translate=25)
    turned, _ = measured(rotate=45)
    assert 0.62 < scales.min() < 0.8
    assert 1.2 < scales.max() < 1.46
    assert 0.15 < np.abs(moved).max() <= 0.251
    assert areas == pytest.approx(np.ones(60), abs=0.02)
    assert turned == pytest.approx(np.ones(60), abs=0.02)


def test_a_classifier_is_trained_on_altered_images_and_validated_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = replace(make_truth(tmp_path / "shapes", (4, 2, 2), Task.CLASSIFICATION), augmentation=declared(rotate=90))
    job, history = make_job(tmp_path / "job", truth, make_request("mobilenet_v3_small", imageSize=32))
    seen, alter = [], classifier_augmentation.altered

    def note(images: Any, **others: Any) -> Any:
        seen.append(len(images))
        return alter(images, **others)

    monkeypatch.setattr(classifier_augmentation, "altered", note)
    monkeypatch.setattr(classifiers, "_augmented", lambda images: pytest.fail("altered twice"))
    mobilenet_v3.FAMILY.train(job, history)

    assert seen == [4]


@pytest.mark.parametrize("architecture", ["yolov8n", "mobilenet_v3_small"])
def test_what_is_shown_beforehand_is_made_by_the_code_of_the_training(tmp_path: Path, architecture: str) -> None:
    detects = architecture.startswith("yolo")
    family: Any = yolov8.FAMILY if detects else mobilenet_v3.FAMILY
    truth = make_truth(tmp_path / "shapes", (4, 1, 1), Task.DETECTION if detects else Task.CLASSIFICATION)
    (tmp_path / "sheet").mkdir()

    examples = Examples(truth.samples("train"), truth.labels, 2, 3, 64, 7, tmp_path / "sheet")
    found = list(family.altered(Augmentation(flip_vertical=True, mosaic=50 if detects else None), examples))

    assert [len(one) for one in found] == [3, 3]
    for one in found[0]:
        assert one.pixels.shape == (64, 64, 3)
        assert len(one.boxes) == len(one.class_ids) if detects else not len(one.boxes)
        assert np.all((one.boxes >= -1e-3) & (one.boxes <= 64.001))
    assert not np.array_equal(found[0][0].pixels, found[0][1].pixels)


def test_boxes_that_are_shown_lie_where_the_organisms_are(tmp_path: Path) -> None:
    """Shapes are darker than their background, so something dark must lie within each box, whatever was done to the image."""
    truth = make_truth(tmp_path / "shapes", (4, 1, 1), Task.DETECTION)
    (tmp_path / "sheet").mkdir()
    policy = declared(rotate=20, flipVertical=True, translate=5)
    examples = Examples(truth.samples("train"), truth.labels, 4, 3, 96, 7, tmp_path / "sheet")

    for one in (each for row in yolov8.FAMILY.altered(policy, examples) for each in row):
        assert len(one.boxes)
        for x1, y1, x2, y2 in one.boxes.round().astype(int).clip(0, 95):
            middle = cv2.cvtColor(one.pixels[y1 : y2 + 1, x1 : x2 + 1], cv2.COLOR_BGR2GRAY)
            assert middle.mean() < 160


def test_what_is_done_goes_on_record_also_where_nothing_is_declared(tmp_path: Path) -> None:
    truth = make_truth(tmp_path, (2, 1, 1), Task.CLASSIFICATION)
    parameters = make_request("mobilenet_v3_small").hyperparameters

    def applied(known: GroundTruth, family: Any) -> dict[str, str]:
        return train_step._applied(known, family, parameters)

    usual = applied(truth, yolov8.FAMILY)
    assert {usual[f"augmentation.{name}"] for name in ("flipHorizontal", "scale")} == {"50 %"}
    assert (usual["augmentation.color.hue"], usual["augmentation.rotate"]) == ("1.5 %", "0 degrees")
    assert (usual["augmentation.mosaic"], usual["augmentation.blur"]) == ("0 %", "0 %")
    found = applied(replace(truth, augmentation=Augmentation(rotate=90, flip_vertical=False)), mobilenet_v3.FAMILY)
    assert found["augmentation.rotate"] == "90 degrees"
    assert found["augmentation.flipVertical"] == "0 %"
    assert found["augmentation.flipHorizontal"] == "50 %", "as the family has it"


def test_a_family_that_does_not_alter_images_so_is_refused(tmp_path: Path) -> None:
    known = replace(make_truth(tmp_path, (2, 1, 1), Task.CLASSIFICATION), augmentation=Augmentation(rotate=90))
    other: Any = SimpleNamespace(DESCRIPTION=replace(mobilenet_v3.FAMILY.DESCRIPTION, augments=False))

    with pytest.raises(RefusedError, match="declares augmentation, which the family MobileNetV3 does not heed"):
        train_step._require_heeded(known, other)


def test_a_version_keeps_what_is_declared_and_its_report_shows_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report's examples are drawn in this process, which has loaded the framework; test_steps.py covers real preparations."""

    def draw(wanted: Any, versions: Path) -> bytes:
        folder = versions / "sheet"
        folder.mkdir()
        augmentation_sheet._draw(wanted, str(folder))
        return (folder / "sheet.png").read_bytes()

    monkeypatch.setattr(augmentation_sheet, "_asked", draw)
    policy = {"flipVertical": True, "rotate": 90, "color": {"hue": 3}}
    uri, digest = make_version(tmp_path / "a", (5, 2, 2), Task.DETECTION, augmentation=policy)
    _, usual = make_version(tmp_path / "b", (5, 2, 2), Task.DETECTION)
    _, nothing = make_version(tmp_path / "c", (5, 2, 2), Task.DETECTION, augmentation={"color": {}})

    assert versions.read(uri).augmentation == Augmentation.model_validate(policy)
    assert nothing == usual != digest
    page, drawn, *_ = kept.find(uri, tmp_path / "scratch")
    assert drawn == Path(uri, SHEET)
    assert base64.b64encode(drawn.read_bytes()).decode() in page.read_text(encoding="utf-8")
    assert "Declared: flipVertical true; rotate 90; color.hue 3." in page.read_text(encoding="utf-8")
    sheet = cv2.imread(str(drawn))
    assert sheet.shape == (4 * 164 - 4, 7 * 164 - 4 + 16, 3)
    first = versions.read(uri)
    before = next(augmentation_sheet._chosen(first))
    assert np.array_equal(sheet[:160, :160], augmentation_sheet._picture(augmentation_sheet._as_it_is(before, 640)))
    assert sheet[:160, 176:336].std() > 10
    assert not kept.find(str(Path(uri).parent / usual.removeprefix("sha256:")), tmp_path / "scratch")


def test_without_its_framework_a_version_has_its_report_and_no_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    uri, _ = make_version(tmp_path, (4, 2, 2), Task.CLASSIFICATION, augmentation={"rotate": 90})

    page, *others = kept.find(uri, tmp_path / "scratch")
    assert Path(uri, SHEET) not in others
    assert "Examples could not be drawn" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wild",
    [
        {"rotate": 181},
        {"rotate": -1},
        {"scale": 91},
        {"translate": 51},
        {"blur": 101},
        {"mosaic": 101},
        {"color": {"hue": 51}},
        {"color": {"brightness": 101}},
        {"rotate": 1.5},
        {"perspective": 1},
    ],
    ids=str,
)
def test_wild_values_are_refused(wild: dict[str, Any]) -> None:
    recipe = {"source": {"volume": {"path": "a"}}, "task": "Detection", "augmentation": wild}

    with pytest.raises(ValueError, match="augmentation"):
        PreparationRequest.model_validate(recipe)
