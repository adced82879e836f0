"""Mean and deviation of training images: exact in any order, and remembered separately for each colour correction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from image_sources import photo, tree_of
from pelagos_contract import sealing
from pelagos_contract.dataset import PreparationRequest, PreparationResult
from pelagos_contract.preprocessing import Preprocessing
from pelagos_pipelines.preparation import integrity, measuring, statistics, versions
from pelagos_pipelines.preparation.statistics import Wanted
from pelagos_pipelines.serving import color
from pelagos_pipelines.steps.prepare import prepare

REQUEST = {"source": {"volume": {"path": "."}}, "format": "ImageFolder", "task": "Classification"}


def noise(height: int, width: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def channels(image: Any) -> statistics.Channels:
    found = statistics.believed(measuring.channels(image), image.shape[0] * image.shape[1])
    assert found is not None
    return found


def run(folder: Path, report: str, **more: Any) -> versions.Version:
    prepare(json.dumps(REQUEST | more), str(folder / "data"), str(folder / "store"), str(folder / report))
    told = sealing.opened(sealing.document(folder / report / "result.json"))
    return versions.read(PreparationResult.model_validate(told).uri)


def test_every_image_counts_alike_red_first_whatever_the_order() -> None:
    images = [noise(7, 9, 1), noise(200, 30, 2) // 3, noise(1, 1, 3)]
    seen = [(channels(one), one.shape[0] * one.shape[1]) for one in images]

    found = statistics.of(seen)

    levels = [one[..., ::-1] / 255 for one in images]
    mean = np.mean([one.mean((0, 1)) for one in levels], axis=0)
    variance = np.mean([np.square(one).mean((0, 1)) for one in levels], axis=0) - mean**2
    assert found.mean == pytest.approx(mean.tolist(), abs=1e-6)
    assert found.deviation == pytest.approx(np.sqrt(variance).tolist(), abs=1e-6)
    assert statistics.of(seen[::-1]) == found


@pytest.mark.parametrize("level", [0, 77, 255])
def test_images_of_one_level_have_no_deviation(level: int) -> None:
    image: Any = np.full((101, 97, 3), level, np.uint8)

    found = statistics.of([(channels(image), 101 * 97)] * 3)

    assert (found.mean, found.deviation) == ([round(level / 255, 6)] * 3, [0.0] * 3)


@pytest.mark.parametrize(
    "lie",
    [
        {"sums": [0, 0]},
        {"sums": [-1, 0, 0]},
        {"sums": None},
        {"squares": [10**9] * 3},
        {"sums": [1.5, 0, 0]},
        {"squares": [0] * 3},
    ],
)
def test_a_child_is_not_believed_what_cannot_be(lie: dict[str, Any]) -> None:
    image = noise(5, 6, 0)

    assert statistics.believed(measuring.channels(image) | lie, 30) is None


def test_what_is_remembered_after_one_correction_is_not_taken_for_another(tmp_path: Path) -> None:
    photo(tmp_path / "source" / "1.png")
    pixels = cv2.imread(str(tmp_path / "source" / "1.png"))
    memory = tmp_path / "inspections.json"

    def look(wanted: Wanted | None) -> integrity.Inspection:
        return integrity.inspect_tree(tree_of(tmp_path / "source"), memory, wanted=wanted)["1.png"]

    for _ in range(2):
        for method in (None, "GrayWorld", "GrayWorld", "Clahe"):
            assert look(Wanted(method)).channels == channels(color.corrected(pixels, method)), method
    assert look(None).channels is None


class TestVersions:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for index in range(8):
            photo(tmp_path / "data" / "ab"[index % 2] / f"{index}.png", seed=index)
        return tmp_path

    def test_have_them_where_the_recipe_declares_them_and_are_other_ones_then(self, folder: Path) -> None:
        usual = run(folder, "usual")
        found = [run(folder, str(method), preprocessing=declared(method)) for method in (None, "GrayWorld")]

        assert usual.statistics is None
        assert found[0].statistics != found[1].statistics
        assert len({usual.digest, *(one.digest for one in found)}) == 3
        train = [image for image in found[0].collection.images if image.split == "train"]
        pixels = [cv2.imread(str(found[0].blobs[image.path]))[..., ::-1] / 255 for image in train]
        assert found[0].statistics is not None
        assert found[0].statistics.mean == pytest.approx(
            np.mean([one.mean((0, 1)) for one in pixels], axis=0), abs=1e-6
        )

    def test_have_them_of_images_that_become_png_too(self, tmp_path: Path) -> None:
        for index in range(8):
            photo(tmp_path / "data" / "ab"[index % 2] / f"{index}.tif", seed=index)

        found = run(tmp_path, "tiff", preprocessing=declared(None))

        assert len(found.collection.images) == 8
        assert found.statistics is not None

    def test_that_declare_nothing_are_the_same_however_that_is_written(self, folder: Path) -> None:
        assert run(folder, "usual").digest == run(folder, "written", preprocessing={"color": None}).digest


def declared(method: Any) -> dict[str, Any]:
    found = Preprocessing(color=method, normalization="DatasetStatistics")
    assert PreparationRequest.model_validate(REQUEST | {"preprocessing": found.written()}).preprocessing == found
    return found.written()
