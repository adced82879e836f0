"""An image's measures equal those of the usual OpenCV code. Only thresholds drop images, and each with its value."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from image_sources import photo, tree_of
from pelagos_contract import sealing
from pelagos_contract.dataset import Cleaning, PreparationResult
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Collection, Exclusion, ImageRecord
from pelagos_pipelines.preparation import cleaning, integrity, ledger, measures, measuring
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.preparation.measures import Measures
from pelagos_pipelines.steps.prepare import prepare

PLAIN = Measures(sharpness=100.0, brightness=120.0, contrast=40.0, clipped=0.0)
LIMITS = {
    "minSharpness": ("Blurred", {"sharpness": 12.5}, 13, 12),
    "minBrightness": ("TooDark", {"brightness": 9.5}, 10, 9),
    "maxBrightness": ("TooBright", {"brightness": 240.5}, 240, 241),
    "minContrast": ("LowContrast", {"contrast": 3.5}, 4, 3),
    "maxClipped": ("Clipped", {"clipped": 60.5}, 60, 61),
}


def measured(grey: Any) -> Measures:
    found = measures.believed(measuring.measure(grey), grey.size)
    assert found is not None
    return found


def noise(height: int, width: int, seed: int = 0) -> Any:
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8), (3, 3), 0)


def clean(*seen: Inspection, **rules: int) -> cleaning.Cleaned:
    images = tuple(ImageRecord(one.sha256, label="cod") for one in seen)
    found = {one.sha256: one for one in seen}
    return cleaning.clean(Collection(Task.CLASSIFICATION, ("cod",), images), found, Cleaning.model_validate(rules))


def whole(name: str, of: Measures = PLAIN, width: int = 100, height: int = 80) -> Inspection:
    return Inspection(name, 1, width, height, name, measures=of)


class TestMeasuring:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (31, 7), (32, 50), (33, 50), (97, 64)])
    def test_agrees_with_floating_point_over_the_whole_image(self, shape: tuple[int, int]) -> None:
        grey = noise(*shape)

        found = measured(grey)

        assert found.sharpness == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), abs=0.006)
        assert found.brightness == pytest.approx(grey.mean(), abs=0.006)
        assert found.contrast == pytest.approx(grey.std(), abs=0.006)

    def test_of_a_large_image_looks_at_bands_all_over_it(self) -> None:
        grey = noise(2000, 3000)
        grey[1000:] = 90

        looked = measuring.measure(grey)
        half = measured(grey)

        assert measuring._MOST / 2 < looked["among"] < 2 * measuring._MOST
        assert half.sharpness == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), rel=0.1)

    def test_a_blurred_copy_is_less_sharp_and_as_bright(self) -> None:
        grey = noise(200, 300)

        sharp, blurred = measured(grey), measured(cv2.GaussianBlur(grey, (0, 0), 3))

        assert blurred.sharpness < sharp.sharpness / 50
        assert blurred.brightness == pytest.approx(sharp.brightness, abs=1)

    def test_counts_black_and_white_pixels(self) -> None:
        grey: Any = np.full((10, 10), 128, np.uint8)
        grey[0, :3] = (0, 1, 2)
        grey[1, :3] = (255, 254, 253)

        assert measured(grey).clipped == 4.0

    def test_sums_of_the_largest_values_are_exact(self) -> None:
        grey: Any = np.full((4001, 3001), 255, np.uint8)

        assert measuring.measure(grey)["grey2"] == 255**2 * grey.size
        assert measured(grey) == Measures(0.0, 255.0, 0.0, 100.0)

    @pytest.mark.parametrize(
        "lie",
        [
            {"grey": -1},
            {"grey": 10**9},
            {"grey2": 0},
            {"clipped": 10**6},
            {"among": 0},
            {"among": 10**6},
            {"edges2": 10**12},
            {"edges": 10**9},
            {"edges": "1"},
            {"grey": 1.5},
            {"grey": True},
            {"grey": None},
        ],
    )
    def test_a_child_is_not_believed_what_cannot_be(self, lie: dict[str, Any]) -> None:
        grey = noise(20, 30)

        assert measures.believed(measuring.measure(grey) | lie, grey.size) is None


class TestThresholds:
    def test_none_is_set_and_nothing_is_dropped(self) -> None:
        black = Measures(sharpness=0.0, brightness=0.0, contrast=0.0, clipped=100.0)

        done = clean(whole("a", black, 4000, 16), whole("b"))

        assert done.excluded == ()

    @pytest.mark.parametrize("field", LIMITS)
    def test_beyond_it_an_image_is_dropped_with_what_it_measures(self, field: str) -> None:
        reason, odd, beyond, within = LIMITS[field]
        image = whole("a", replace(PLAIN, **odd))

        dropped, kept = clean(image, whole("b"), **{field: beyond}), clean(image, whole("b"), **{field: within})

        (value,) = odd.values()
        assert [(one.path, one.reason.value, one.measured) for one in dropped.excluded] == [("a", reason, value)]
        assert [one.path for one in dropped.collection.images] == ["b"]
        assert kept.excluded == ()

    @pytest.mark.parametrize("size", [(100, 321), (321, 100)])
    def test_an_image_may_not_be_longer_or_wider(self, size: tuple[int, int]) -> None:
        done = clean(whole("a", PLAIN, *size), whole("b"), maxAspect=3)

        assert [(one.path, one.reason, one.measured) for one in done.excluded] == [
            ("a", ExclusionReason.ODD_ASPECT, 3.21)
        ]
        assert clean(whole("a", PLAIN, 300, 100), maxAspect=3).excluded == ()

    def test_an_image_beyond_several_is_named_once(self) -> None:
        odd = Measures(sharpness=0.0, brightness=1.0, contrast=0.0, clipped=100.0)

        done = clean(whole("a", odd), whole("b"), minSharpness=5, minBrightness=5, maxClipped=5)

        assert [(one.path, one.reason) for one in done.excluded] == [("a", ExclusionReason.TOO_DARK)]

    def test_what_is_dropped_is_no_duplicate_of_what_is_kept(self) -> None:
        dark = replace(PLAIN, brightness=1.0)
        images = (replace(whole("a", dark), pixels="same"), replace(whole("b"), pixels="same"))

        done = clean(*images, minBrightness=5)

        assert [one.path for one in done.collection.images] == ["b"]
        assert done.duplicates == 0

    def test_nothing_left_names_the_fields(self) -> None:
        with pytest.raises(RefusedError) as caught:
            clean(whole("a"), whole("b", replace(PLAIN, brightness=5.0)), minSharpness=101, minBrightness=6)

        message = caught.value.failure.message
        assert "1 are beyond cleaning.minBrightness, 1 are beyond cleaning.minSharpness: none is left" in message
        assert "have cleaning.minBrightness and cleaning.minSharpness allow more" in message

    def test_what_images_measure_is_told_of_all_that_can_be_decoded(self) -> None:
        seen = [whole(f"{n:03d}", replace(PLAIN, brightness=float(n))) for n in range(101)]
        broken = Inspection("x", 1, problem="it is truncated")

        done = clean(*seen, broken, minBrightness=50)

        (told,) = [one for one in done.measured if one.measure == "brightness"]
        assert (told.least, told.low, told.median, told.high, told.most) == ("0", "1", "50", "99", "100")
        assert [one.measure for one in done.measured] == ["sharpness", "brightness", "contrast", "clipped", "aspect"]


class TestWholePreparation:
    def test_names_what_it_drops_in_the_result_and_in_the_version(self, tmp_path: Path) -> None:
        for index in range(4):
            photo(tmp_path / "data" / "cod" / f"{index}.png", seed=index)
        flat: Any = np.full((48, 64, 3), 7, np.uint8)
        cv2.imwrite(str(tmp_path / "data" / "cod" / "flat.png"), flat)
        request = {
            "source": {"volume": {"path": "."}},
            "format": "ImageFolder",
            "task": "Classification",
            "cleaning": {"minContrast": 2},
        }

        def run(report: str, request: dict[str, Any]) -> PreparationResult:
            prepare(json.dumps(request), str(tmp_path / "data"), str(tmp_path / "store"), str(tmp_path / report))
            return PreparationResult.model_validate(sealing.opened(sealing.document(tmp_path / report / "result.json")))

        result, usual = run("report", request), run("usual", request | {"cleaning": {}})

        (one,) = result.excluded
        assert one.model_dump() == {
            "reason": "LowContrast",
            "files": 1,
            "first": ["cod/flat.png"],
            "measured": "0",
        }
        assert (Path(result.uri) / "excluded.jsonl").read_text() == (
            '{"path":"cod/flat.png","reason":"LowContrast","measured":0.0}\n'
        )
        assert (usual.excluded, usual.measured) == ([], result.measured)

    def test_measures_are_remembered_with_what_else_is_known_of_an_image(self, tmp_path: Path) -> None:
        photo(tmp_path / "source" / "1.png")
        memory = tmp_path / "inspections.json"

        found = [integrity.inspect_tree(tree_of(tmp_path / "source"), memory)["1.png"] for _ in range(2)]

        assert found[0].measures == found[1].measures
        assert found[0].measures is not None

    def test_lines_of_files_that_nothing_is_measured_of_are_as_ever(self) -> None:
        line = b'{"path":"a","reason":"TooSmall"}\n'

        assert list(ledger.lines([Exclusion("a", ExclusionReason.TOO_SMALL)])) == [line]
