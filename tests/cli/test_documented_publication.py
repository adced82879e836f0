"""The page about publishing: its Datasets are valid, its tables are complete, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pelagos.api import kinds, reasons
from pelagos.api.dataset import Publication
from pelagos.cli.main import app
from pelagos.decisions import rules
from pelagos_contract.publication import Publish, ZenodoTarget
from resource_servers import ApiServer, api

__all__ = ["api"]

PAGE = (Path(__file__).parents[2] / "docs/publishing.md").read_text()
SPECS = [
    yaml.load(found, Loader=yaml.BaseLoader)["spec"] for found in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
]
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
BASE = {"source": {"volume": {"path": "fish"}}, "task": "Detection"}


@pytest.mark.parametrize("written", SPECS, ids=", ".join)
def test_a_documented_dataset_is_valid(written: dict[str, Any]) -> None:
    spec = kinds.DATASET.spec.model_validate(BASE | written)
    assert rules.violation(spec) is None


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("pelagos ")])
def test_a_documented_command_runs(api: ApiServer, command: str) -> None:
    published = {"type": "Published", "status": "True", "reason": "Published", "message": "it is"}
    api.add("bay-fish", {"conditions": [published]}, spec=BASE | SPECS[1])

    done = CliRunner().invoke(app, shlex.split(command)[1:], env={"COLUMNS": "200"})

    assert done.exit_code == 0, done.output


def test_what_kubectl_is_asked_for_is_there() -> None:
    asked = [each for each in COMMANDS if "jsonpath=" in each]
    fields = [each.rpartition("jsonpath={.status.publication")[2].rstrip("}").lstrip(".") for each in asked]
    known = {str(field.alias) for field in Publication.model_fields.values()}
    assert fields
    assert set(fields) <= known | {""}
    (secret,) = [each for each in COMMANDS if "create secret" in each]
    assert "--from-literal=token=" in secret


def test_the_page_names_fields_and_reasons_that_there_are() -> None:
    fields = set(
        re.findall(r"^\| `(\w+)` \| ", PAGE.split("## For good")[1].split("## What is published")[0], re.MULTILINE)
    )
    known = {str(field.alias or name) for kind in (Publish, ZenodoTarget) for name, field in kind.model_fields.items()}
    assert fields <= known
    named = set(re.findall(r"`((?:Repository|Publication)\w+)`", PAGE)) - {"PublicationStuck"}
    assert named <= reasons.documented()
