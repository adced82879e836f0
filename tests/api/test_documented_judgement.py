"""The page about judging: its Datasets are valid, and its commands name existing fields."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from pelagos.api.dataset import DatasetSpec, DatasetStatus
from pelagos.api.training_run import TrainingRunStatus
from pelagos.decisions import rules
from pelagos_contract.judgement import Link

PAGE = (Path(__file__).parents[2] / "docs/judging-datasets.md").read_text(encoding="utf-8")
FOUND = [found["spec"] for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))]
LEAST = {"source": {"volume": {"path": "samples"}}, "task": "Classification"}


def schema(kind: Any, path: str) -> Any:
    """The part of a kind's schema to which a path of kubectl leads; KeyError where it leads nowhere."""
    whole = kind.model_json_schema(by_alias=True)
    at = whole
    for name in re.findall(r"\w+", path):
        at = next((one for one in at.get("anyOf", ()) if one.get("type") != "null"), at)
        at = whole["$defs"][at["$ref"].rpartition("/")[2]] if "$ref" in at else at
        at = at["properties"][name]
        at = next((one for one in at.get("anyOf", ()) if one.get("type") != "null"), at)
        at = at.get("items", at)
    return whole["$defs"][at["$ref"].rpartition("/")[2]] if "$ref" in at else at


def test_documented_gates_and_bounds_are_valid() -> None:
    assert {name for written in FOUND for name in written} == {"quality", "bias"}
    for written in FOUND:
        assert rules.violation(DatasetSpec.model_validate(LEAST | written)) is None


def test_documented_commands_ask_for_fields_that_there_are() -> None:
    asked = re.findall(r"kubectl get (\w+) \w+ -o jsonpath='(.*?)'", PAGE)
    assert len(asked) == 2
    for kind, template in asked:
        status = {"dataset": DatasetStatus, "trainingrun": TrainingRunStatus}[kind]
        (path,) = re.findall(r"\.status\.([\w.]+)", template)
        found = schema(status, path)
        assert {*re.findall(r"\{\.(\w+)\}", template)} <= found.get("properties", {}).keys()
    for patch in re.findall(r"kubectl patch dataset .* -p ('.*')", PAGE):
        (content,) = shlex.split(patch)
        DatasetSpec.model_validate(LEAST | json.loads(content)["spec"])


def test_every_link_between_splits_is_documented() -> None:
    table = PAGE.partition("## Leakage between splits")[2].partition("## Bias")[0]

    assert re.findall(r"^\| `([A-Z]\w+)` \|", table, re.MULTILINE) == [link.value for link in Link]
