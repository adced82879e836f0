"""The Datasets in the page about sources are valid, and there is one for each source that is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos.api import kinds
from pelagos.decisions import rules
from pelagos_contract.sources import SOURCES

_PAGE = (Path(__file__).parents[2] / "docs/sources.md").read_text()
FOUND = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)]
SPECS = [found.get("spec", {"task": "Detection"} | found) for found in FOUND if "source" in found.get("spec", found)]


@pytest.mark.parametrize("written", SPECS, ids=lambda written: next(iter(written["source"])))
def test_a_documented_source_is_valid(written: dict[str, Any]) -> None:
    spec = kinds.DATASET.spec.model_validate(written)
    assert rules.violation(spec) is None


def test_each_source_that_is_fetched_is_documented() -> None:
    shown = {name for written in SPECS for name in written["source"]}
    assert shown == {place.name for place in SOURCES if place.path is None}
