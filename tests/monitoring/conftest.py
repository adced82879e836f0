"""Files for monitoring systems, tried with the real promtool and Prometheus. In: manifests. Out: how the programs read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring_tools import MANIFESTS, ROOT, Promtool, programs


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    return Promtool(programs() / "promtool")


@pytest.fixture(scope="session")
def rules_file() -> Path:
    return MANIFESTS / "pelagos.rules.yaml"


@pytest.fixture(scope="session")
def rules(rules_file: Path) -> list[dict[str, Any]]:
    """All rules, in order."""
    groups = yaml.safe_load(rules_file.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def runbooks() -> Path:
    return ROOT / "docs" / "runbooks"
