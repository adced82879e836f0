"""The samples work: each TrainingRun is trained on a few of its images, for one epoch, to a proven package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos_contract import metrics
from pelagos_contract.flows import TRAINING
from pelagos_contract.tasks import TASKS, Task
from pelagos_pipelines.samples import organisms, scenes, survey
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


def names_on(images: str) -> list[str]:
    """The names of the samples that have a TrainingRun on a folder of images."""
    return [
        folder.name
        for folder in sorted(SAMPLES.iterdir())
        if (folder / "trainingrun.yaml").exists()
        and spec_of(folder.name, "dataset")["source"]["volume"]["path"] == f"samples/{images}"
    ]


NAMES = names_on("phytoplankton-scenes")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data volume with a few of the scenes."""
    folder = tmp_path_factory.mktemp("data")
    wheel = make_wheel(folder / "planktonclas-0.2.4-py3-none-any.whl")
    cut = [organisms.cut_out(crop) for crop in wheels.read(wheel).crops]
    scenes.write(folder / "samples/phytoplankton-scenes", organisms.divide(cut, 20), SIZES)
    survey.write(folder / "samples/phytoplankton-survey", cut, images=4, sites=2)
    return folder


def version_of(name: str, data: Path, folder: Path) -> dict[str, Any]:
    prepare(json.dumps(spec_of(name, "dataset")), str(data), str(folder / "store"), str(folder / "prepared"))
    found: dict[str, Any] = json.loads((folder / "prepared/result.json").read_text(encoding="utf-8"))
    return found


def test_there_is_a_sample_for_each_task_of_shapes() -> None:
    assert len(NAMES) == 4
    assert {spec_of(name, "dataset")["task"] for name in NAMES} == set(Task) - {Task.DETECTION, Task.CLASSIFICATION}


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_becomes_a_proven_package(name: str, data: Path, tmp_path: Path) -> None:
    """As in manifests/samples, with one epoch on few and small images."""
    version = version_of(name, data, tmp_path)
    spec = spec_of(name, "trainingrun")
    request = make_request(
        spec["model"]["architecture"], version["uri"], version["version"], imageSize=64, batchSize=4, epochs=1
    )

    perform(TRAINING.stages, *parameters(tmp_path / "training", request))

    result = result_of(tmp_path / "training")
    assert result.model.task is request.task
    assert result.model.parity.images == SIZES["test"]
    assert all(f"test/{metric}" in result.metrics for metric in TASKS[request.task].metrics)


def test_the_sample_of_evaluation_has_every_figure_that_its_gates_judge(data: Path, tmp_path: Path) -> None:
    (name,) = names_on("phytoplankton-survey")
    version = version_of(name, data, tmp_path)
    spec = spec_of(name, "trainingrun")
    asked = {"evaluation": spec["evaluation"], "imageSize": 32, "epochs": 1}
    request = make_request(spec["model"]["architecture"], version["uri"], version["version"], **asked)

    perform(TRAINING.stages, *parameters(tmp_path / "training", request))

    result = result_of(tmp_path / "training")
    known = {name for name in result.metrics if result.metrics[name] is not None or name == "test/ECE"}
    for gate in spec["gates"]:
        named = gate.get("slice")
        metric = metrics.of_worst(named["field"], gate["metric"]) if named else gate["metric"]
        assert metrics.whole(metric, gate.get("class")) in known
    assert result.leave_one_out is not None
    assert [(group.value, group.images) for group in result.leave_one_out.groups] == [("site-1", 20), ("site-2", 20)]
