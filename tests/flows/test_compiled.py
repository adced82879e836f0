"""What the control plane launches matches the flows: the committed files are regenerated and compared."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pelagos_contract.flows import FLOWS, FlowDescription
from pelagos_contract.flows import TRAINING as TRAINING_FLOW
from pelagos_pipelines.flows import compilation

if TYPE_CHECKING:
    from pathlib import Path

PREPARATION = {"request", "data_root", "store", "report"}
FILES = ("dataset-preparation", "training", "training-on-gpus")
TRAINING = PREPARATION | {"workspace", "tracking_uri", "tracking_run"}


def flow(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((compilation.FOLDER / f"{name}.yaml").read_text())
    return document


def test_the_committed_files_are_up_to_date() -> None:
    committed = {path.name: path.read_text() for path in compilation.FOLDER.iterdir()}

    assert compilation.render() == committed, "run `python -m pelagos_pipelines.flows` and commit what it writes"


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HOME": str(tmp_path), "LANG": "C"}
    command = [sys.executable, "-m", "pelagos_pipelines.flows", str(tmp_path / "compiled")]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)

    assert {path.name: path.read_text() for path in (tmp_path / "compiled").iterdir()} == compilation.render()


@pytest.mark.parametrize(
    ("name", "want"), [("dataset-preparation", PREPARATION), ("training", TRAINING), ("training-on-gpus", TRAINING)]
)
def test_parameters_are_those_of_the_contract_and_all_strings_without_default(name: str, want: set[str]) -> None:
    parameters = flow(name)["root"]["inputDefinitions"]["parameters"]

    assert parameters == {key: {"parameterType": "STRING"} for key in want}


@pytest.mark.parametrize("gpus", [False, True])
@pytest.mark.parametrize("described", tuple(FLOWS), ids=lambda described: described.name)
def test_its_steps_are_those_that_the_contract_describes(described: FlowDescription, gpus: bool) -> None:
    executors = flow(described.file(gpus=gpus))["deploymentSpec"]["executors"]

    assert executors.keys() == {f"exec-{step.name}" for step in described.steps(gpus=gpus)}
    assert described.on_gpus <= set(described.stages)


def test_a_run_without_gpus_is_one_step_and_the_last_one_with_gpus_holds_none() -> None:
    for described in FLOWS:
        (step,) = described.steps(gpus=False)
        assert (step.stages, step.on_gpus) == (described.stages, False)
    told = [(step.stages, step.on_gpus) for step in TRAINING_FLOW.steps(gpus=True)]

    assert told == [(("train", "evaluate"), True), (("export",), False)]


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("dataset-preparation", {"prepare": []}),
        ("training", {"train-evaluate-export": []}),
        ("training-on-gpus", {"train-evaluate": [], "export": ["train-evaluate"]}),
    ],
)
def test_steps_form_a_straight_line_without_caching(name: str, want: dict[str, list[str]]) -> None:
    tasks = flow(name)["root"]["dag"]["tasks"]

    assert {step: task.get("dependentTasks", []) for step, task in tasks.items()} == want
    assert all(task["cachingOptions"] == {} for task in tasks.values())
    assert not any("triggerPolicy" in task or "retryPolicy" in task for task in tasks.values())


@pytest.mark.parametrize("name", FILES)
def test_every_step_hands_all_parameters_to_its_function(name: str) -> None:
    document = flow(name)
    parameters = list(document["root"]["inputDefinitions"]["parameters"])
    described = {step.name: step for gpus in (False, True) for step in TRAINING_FLOW.steps(gpus=gpus)}
    for step, task in document["root"]["dag"]["tasks"].items():
        given = {key: value["componentInputParameter"] for key, value in task["inputs"]["parameters"].items()}
        assert given == {parameter: parameter for parameter in parameters}
        source = ast.parse(document["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["command"][-1])
        function = next(node for node in source.body if isinstance(node, ast.FunctionDef))
        handed = ", ".join(argument.arg for argument in function.args.args)
        _, *body = (ast.unparse(line) for line in function.body)
        if name == "dataset-preparation":
            assert body == ["from pelagos_pipelines.steps.prepare import prepare as step", f"step({handed})"]
        else:
            assert body == [
                "from pelagos_pipelines.steps.stages import perform",
                f"stages = {described[step].stages!r}",
                f"perform(stages, {handed})",
            ]
        assert handed.startswith("request, data_root, store, report")


@pytest.mark.parametrize("name", FILES)
def test_steps_have_limits_and_install_nothing_at_run_time(name: str) -> None:
    for executor in flow(name)["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert {"resourceCpuLimit", "resourceMemoryLimit"} <= set(container["resources"])
        assert "pip install" not in " ".join(container["command"])


def test_no_step_asks_for_an_accelerator_since_the_control_plane_places_each_run() -> None:
    for name in FILES:
        for executor in flow(name)["deploymentSpec"]["executors"].values():
            assert "accelerator" not in executor["container"]["resources"]
