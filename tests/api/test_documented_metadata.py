"""The page about metadata: its Datasets are valid, and its table lists what the documents need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pelagos.api.dataset import DatasetSpec
from pelagos.decisions import rules
from pelagos_contract.documents import DOCUMENTS
from pelagos_contract.fair.indicators import INDICATORS
from pelagos_contract.metadata import Metadata

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FAIR_EVA = (DOCS / "fair.md").read_text(), (DOCS / "fair-eva.md").read_text()
FOUND = [found["spec"] for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))]
SPECS = [written for written in FOUND if "metadata" in written]


def test_documented_metadata_is_valid_once_it_is_json() -> None:
    # As the API server reads it: YAML of Kubernetes has no dates.
    for written in SPECS:
        document = yaml.load(yaml.dump(written), Loader=yaml.BaseLoader)["metadata"]
        for taxon in document.get("taxa", ()):
            taxon["aphiaId"] = int(taxon["aphiaId"])
        spec = DatasetSpec.model_validate({**written, "metadata": document})
        assert rules.violation(spec) is None
        assert spec.metadata is not None
        assert all(each.lacking(spec.metadata) == () for each in DOCUMENTS)


def test_a_documented_gate_is_valid() -> None:
    (gate,) = [written for written in FOUND if "fair" in written]

    spec = DatasetSpec.model_validate({**SPECS[0], "metadata": None, **gate})
    assert spec.fair is not None
    assert spec.fair.min_score == 75


def test_the_table_of_documents_is_that_of_the_contract() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|.*\| (.*?) \|$", PAGE, re.MULTILINE)
    told = {name: ({*re.findall("`(.*?)`", files)}, {*re.findall("`(.*?)`", needs)}) for name, files, needs in rows}

    aliases = {name: str(field.alias) for name, field in Metadata.model_fields.items()}
    assert told == {each.name: ({*each.files}, {aliases[name] for name in each.needs}) for each in DOCUMENTS}


def test_the_table_of_what_fair_eva_takes_off_accounts_for_its_score_and_for_what_can_be_had() -> None:
    weights = {each.code.removeprefix("RDA-"): each.weight for each in INDICATORS}
    lost: dict[str, float] = {}
    rows = re.findall(r"^\| ([FAIR][\d.]+-\d\d[MD].*?) \| (\d+).*?\| ([\d.]+) \| ([\w ]+) \|$", FAIR_EVA, re.MULTILINE)
    for names, points, costs, cause in rows:
        here = sum(weights[name] * (100 - int(points)) for name in names.split(", ")) / sum(weights.values())
        assert here == pytest.approx(float(costs), abs=0.06), names
        lost[cause] = lost.get(cause, 0.0) + here

    listed = re.findall(r"^\| (?:the plugin.*?|all three.*?) \| ([\d.]+) \|$", FAIR_EVA, re.MULTILINE)
    most = [float(points) for points in listed]
    plugin, plain, page = (lost[cause] for cause in ("the plugin", "plain Dublin Core", "landing page"))
    assert most == [
        pytest.approx(100 - taken, abs=0.06) for taken in (plugin, plugin + plain, plugin + page, plugin + plain + page)
    ]
    assert f"{most[-1]} by FAIR EVA" in FAIR_EVA
