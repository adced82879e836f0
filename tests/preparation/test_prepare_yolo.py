"""Preparing YOLO sources: the report says what their labels cannot express."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from image_sources import photo, text
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.steps import prepare as step

ROW = "0 0.5 0.5 0.5 0.5\n"


def _source(root: Path, settings: str = "names: [cod]\n", orientation: int | None = None) -> Path:
    text(root / "fish" / "data.yaml", settings)
    for number in range(6):
        turned = orientation if number == 0 else None
        photo(root / "fish" / "images" / f"{number}.jpg", 60, 40, seed=number, orientation=turned)
        text(root / "fish" / "labels" / f"{number}.txt", ROW)
    return root


def _prepare(root: Path, **changes: Any) -> PreparationResult:
    request = {"source": {"volume": {"path": "fish"}}, "task": "Detection", **changes}
    step.prepare(json.dumps(request), str(root), str(root / "store"), str(root / "report"))
    return PreparationResult.model_validate_json((root / "report" / "result.json").read_bytes())


@pytest.mark.parametrize(("orientation", "named"), [(6, True), (3, True), (1, False), (None, False)])
def test_an_image_that_exif_turns_is_named_because_labels_do_not_say_how_it_lay(
    tmp_path: Path, orientation: int | None, named: bool
) -> None:
    result = _prepare(_source(tmp_path, orientation=orientation))

    found = [one for one in result.warnings if "turned" in one]
    assert len(found) == named, "and only once"
    assert all(one.startswith("1 images with boxes are turned or flipped by their EXIF orientation") for one in found)
    assert all("images/0.jpg; look at them" in one for one in found)


def test_images_in_more_than_one_split_are_not_said_to_be_in_none(tmp_path: Path) -> None:
    source = _source(tmp_path, "names: [cod]\ntrain: images\nval: images\n")

    with pytest.raises(RefusedError) as caught:
        _prepare(source, split={"policy": "Provided"})

    assert caught.value.failure.reason is Reason.SPLIT_IMPOSSIBLE
    assert "but 6 images stand in more than one split (images/0.jpg, " in caught.value.failure.message
    assert "no split" not in caught.value.failure.message


def test_a_split_that_is_impossible_is_told_with_what_was_left_out_before(tmp_path: Path) -> None:
    source = _source(tmp_path)
    for number in range(1, 6):
        (source / "fish" / "labels" / f"{number}.txt").unlink()
    with pytest.raises(
        RefusedError, match=r"1 distinct images cannot be divided .*\. Left out before were 5 Unlabelled: im"
    ):
        _prepare(source)
