"""The examples of docs/capture.md work as the page says, with a survey of three sites over nine days."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_sources import coco, document, photo, text
from pelagos_contract.dataset import PreparationResult
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.steps import prepare as step

PAGE = (Path(__file__).parents[2] / "docs/capture.md").read_text(encoding="utf-8")
HEADER, *ROWS = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()
SPECS = [yaml.safe_load(block)["spec"] for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
SITES = ("azores", "madeira", "lisbon")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documented")
    rows, names = [*ROWS], [row.partition(",")[0] for row in ROWS]
    for number in range(27):
        site, day = SITES[number % 3], number // 3 + 1
        name = f"{site}/dive-{day}/{number + 10:04}.jpg"
        rows.append(f"{name},{site},{site} {day},2024-06-{day:02}T0{number % 9}:00:00-01:00,{number * 40},38.5,-28.7")
        names.append(name)
    for number, name in enumerate(names):
        photo(root / "data" / "reef" / name, seed=number)
    document(root / "data" / "reef" / "annotations.json", coco({name: [[1, 1, 9, 9]] for name in names}))
    text(root / "data" / "reef" / "survey.csv", "\n".join((HEADER, *rows, "")))
    return root


@pytest.mark.parametrize("spec", SPECS, ids=", ".join)
def test_what_the_page_shows_makes_a_version(root: Path, spec: dict[str, Any]) -> None:
    request = {
        "source": {"volume": {"path": "reef"}},
        "task": "Detection",
        "format": "Coco",
        **{key: spec[key] for key in spec if key != "bias"},
    }

    step.prepare(json.dumps(request), str(root / "data"), str(root / "store"), str(root / "report"))

    result = PreparationResult.model_validate_json((root / "report" / "result.json").read_bytes())
    images = versions.read(result.uri).collection.images
    assert result.capture is not None
    assert {image.capture.site for image in images if image.capture} == {*SITES}
    assert {"hour", "depth band"} <= {one.name for one in result.slices} or spec["capture"]["from"] == "Exif"
    split = spec.get("split", {})
    if split.get("policy", "").startswith("Grouped"):
        assert result.quality.leakage == 0
    if "gap" in split:
        assert [one.reason for one in result.excluded] == ["WithinGap"]
    if "holdout" in split:
        assert {image.capture.site for image in images if image.split == "test" and image.capture} >= {"azores"}
        assert all(image.split == "test" for image in images if image.capture and image.capture.day == "2024-06-02")
