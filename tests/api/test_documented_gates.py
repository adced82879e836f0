"""The page about gates: its TrainingRuns are valid, and its commands name existing fields."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import builders
from builders import dataset_seen, make_training_observed
from pelagos.api.gates import GateStatus
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions import rules, training_run
from pelagos.decisions.verdicts import summary

PAGE = (Path(__file__).parents[2] / "docs/gates.md").read_text(encoding="utf-8")
FOUND = [found["spec"] for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))]
CLASSES = ("copepod", "Acartia (Acanthacartia) tonsa")


@pytest.mark.parametrize("written", FOUND, ids=lambda written: str(written["gates"][0]["metric"]))
def test_documented_gates_are_valid_and_trained_for(written: builders.Yaml) -> None:
    spec = TrainingRunSpec.model_validate({**builders.TRAINING_RUN, **written})

    assert rules.violation(spec) is None
    decision = training_run.decide(make_training_observed(spec=spec, dataset=dataset_seen(classes=CLASSES)))
    assert decision.effects != (), summary(decision).message


def test_documented_commands_ask_for_fields_that_there_are() -> None:
    (template,) = re.findall(r"kubectl get trainingrun .* -o jsonpath='\{range \.status\.gates\[\*\]\}(.*?)'", PAGE)

    fields = {field.alias or name for name, field in GateStatus.model_fields.items()}
    assert {*re.findall(r"\{\.(\w+)\}", template)} <= fields


@pytest.mark.parametrize("bound", ["1e400", "1e100", "-1", "NaN", "Infinity", "1e", ".5", "0.5 "])
def test_a_bound_that_is_no_finite_number_is_refused_and_named(bound: str) -> None:
    gates = {"gates": [{"metric": "loss", "maximum": bound}]}
    with pytest.raises(ValidationError, match=r"gates\.0\.maximum"):
        TrainingRunSpec.model_validate({**builders.TRAINING_RUN, **gates})


@pytest.mark.parametrize("bound", ["1e99", "1e-99", "0.5", "1e-003", "999999999999e99"])
def test_every_bound_that_is_taken_is_a_finite_number(bound: str) -> None:
    gates = {"gates": [{"metric": "loss", "maximum": bound}]}
    (gate,) = TrainingRunSpec.model_validate({**builders.TRAINING_RUN, **gates}).gates
    assert math.isfinite(float(gate.maximum or ""))
