"""The page about evaluation: its TrainingRuns are valid, its table lists all fields, and its commands name existing fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import builders
from pelagos.api.training_run import SliceStatus, TrainingRunSpec, TrainingRunStatus, WorstSlice
from pelagos.decisions import rules
from pelagos_contract.capture import SLICE_FIELDS
from pelagos_contract.failures import Reason

PAGE = (Path(__file__).parents[2] / "docs/evaluating.md").read_text(encoding="utf-8")
FOUND = [found["spec"] for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))]


@pytest.mark.parametrize("written", FOUND, ids=lambda written: ", ".join(written["evaluation"]))
def test_documented_trainings_are_valid(written: builders.Yaml) -> None:
    spec = TrainingRunSpec.model_validate({**builders.TRAINING_RUN, **written})
    assert rules.violation(spec) is None


def test_every_field_that_slices_may_name_is_explained() -> None:
    table = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    assert {*SLICE_FIELDS} <= {*re.findall(r"`(\w+)`", table)}
    assert Reason.SLICES_IMPOSSIBLE.value in PAGE


def test_documented_commands_ask_for_fields_that_there_are() -> None:
    (template,) = re.findall(r"\{range \.status\.slices\[\*\]\}(.*?)\{end\}", PAGE)
    named = {field.alias or name for kind in (SliceStatus, WorstSlice) for name, field in kind.model_fields.items()}
    assert {*re.findall(r"\.(\w+)", template)} <= named
    whole = {field.alias or name for name, field in TrainingRunStatus.model_fields.items()}
    assert {*re.findall(r"`?\.?status\.(\w+)", PAGE)} <= whole
