"""The ceilings for what strangers hand in: the operator's settings reach the steps that read it, by every engine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from pelagos.engines import kubeflow, kubeflow_placement
from pelagos.engines.kfp_local_launch import Launcher
from pelagos.engines.kubeflow_placement import Count
from pelagos.ports.pipelines import RunName, RunRequest, RunResources
from pelagos.settings import Settings
from pelagos_pipelines.sandbox.ceilings import Ceilings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_setting_without_a_value_is_the_ceiling_that_steps_have_by_themselves() -> None:
    assert Ceilings.read(Settings().ceilings) == Ceilings()


def test_every_ceiling_of_steps_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Ceilings(**dict.fromkeys(asdict(Ceilings()), 7))
    for name, value in wanted.variables().items():
        monkeypatch.setenv(name, value)

    assert Settings().ceilings == wanted.variables()


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e9", str(10**10)])
def test_a_ceiling_is_a_whole_number_from_1(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATIONS", value)

    with pytest.raises(ValidationError, match="max_annotations"):
        Settings()


def test_local_steps_have_the_ceilings_in_their_environment(tmp_path: Path) -> None:
    launcher = Launcher(home=tmp_path, python=tmp_path, compiled=tmp_path, ceilings={"PELAGOS_MAX_ANNOTATIONS": "7"})

    assert launcher._environment()["PELAGOS_MAX_ANNOTATIONS"] == "7"


def test_steps_on_kubeflow_have_the_ceilings_in_their_environment() -> None:
    surroundings = kubeflow.surroundings(Settings(max_annotations=7))
    flow: dict[str, Any] = {"deploymentSpec": {"executors": {"exec-prepare": {"container": {}}}}}
    request = RunRequest(
        name=RunName("r"),
        flow="dataset-preparation",
        parameters={},
        attempt=1,
        retry_key="",
        resources=RunResources(cpu=1),
    )

    placed = kubeflow_placement.place([flow], request, surroundings, Count(1, 1))

    variables = placed["pipeline_spec"]["deploymentSpec"]["executors"]["exec-prepare"]["container"]["env"]
    assert {"name": "PELAGOS_MAX_ANNOTATIONS", "value": "7"} in variables
