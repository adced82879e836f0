"""The samples of formats: each is prepared as its YAML in manifests/samples/formats says, without losing anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pelagos_contract.dataset import PreparationResult
from pelagos_contract.formats import FORMATS
from pelagos_contract.tasks import Task
from pelagos_pipelines.samples import formats, writing
from pelagos_pipelines.samples import wheel as wheels
from pelagos_pipelines.steps.prepare import prepare

ROOT = Path(__file__).parents[2]
WRITTEN = sorted((ROOT / "manifests/samples/formats").glob("*.yaml"))
SPECS = {
    spec["source"]["volume"]["path"].rpartition("/")[2]: spec
    for spec in (yaml.safe_load(path.read_text())["spec"] for path in WRITTEN)
}
FRAMES = sum(formats.FRAMES.values())
CROPS = sum(formats.CROPS.values()) * len(formats.CLASSES)
COMPANIONS = {"Cvat": ["cvat-labels.json"], "LabelStudio": ["config.xml"]}
"""Files beside the annotations that the tools need to create a project. No reader needs them."""


@pytest.fixture(scope="module")
def data(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data volume with the samples."""
    root = tmp_path_factory.mktemp("data")
    writing.write(
        wheels.read(wheel),
        root / "samples",
        {"train": 7, "validation": 3, "test": 3},
        {"train": 2, "validation": 1, "test": 1},
        1,
    )
    return root


def test_there_is_a_sample_of_every_format(data: Path) -> None:
    assert {path.name for path in (data / "samples/formats").iterdir()} == {*FORMATS.names}, (
        "add it to samples/formats.py"
    )
    assert {*SPECS} == {*FORMATS.names}, "add it to manifests/samples/formats"


@pytest.mark.parametrize("name", FORMATS.names)
def test_a_sample_is_recognised_and_loses_nothing(data: Path, tmp_path: Path, name: str) -> None:
    prepare(json.dumps(SPECS[name]), str(data), str(tmp_path / "store"), str(tmp_path / "report"))

    found = PreparationResult.model_validate_json((tmp_path / "report/result.json").read_bytes())
    manifest = json.loads((Path(found.uri) / "manifest.json").read_bytes())
    assert found.images == (CROPS if SPECS[name]["task"] == Task.CLASSIFICATION else FRAMES)
    assert found.annotations == (CROPS if SPECS[name]["task"] == Task.CLASSIFICATION else _drawn(data))
    assert sorted(each.name for each in found.classes) == sorted(formats.CLASSES)
    assert [path for each in found.excluded for path in each.first] == COMPANIONS.get(name, [])
    assert manifest["recipe"]["format"] == name


def _drawn(data: Path) -> int:
    """The organisms in the frames."""
    files = (data / "samples/formats/Coco/annotations").iterdir()
    return sum(len(json.loads(file.read_text())["annotations"]) for file in files)
