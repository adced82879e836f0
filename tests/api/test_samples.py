"""Every sample parses, keeps all rules, and would be stored by the API server as it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos.api import kinds, meta
from pelagos.decisions import rules

ROOT = Path(__file__).parents[2] / "manifests/samples"
SAMPLES = sorted(
    path
    for path in ROOT.rglob("*.yaml")
    if not {"shards", "platform"} & {*path.relative_to(ROOT).parts}
    and ("gitops" not in path.parts or path.parent.parent.name == "tenants")
)
"""Files with our resources; the other samples are installations, tested in tests/gitops and tests/manifests."""
KINDS = {kind.kind: kind for kind in kinds.KINDS}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def test_there_are_samples_of_every_kind() -> None:
    assert {document["kind"] for path in SAMPLES for document in documents(path)} >= KINDS.keys()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_is_valid(path: Path) -> None:
    for document in documents(path):
        if document["kind"] == "Kustomization":
            continue
        assert document["apiVersion"] == meta.API_VERSION
        spec = KINDS[document["kind"]].spec.model_validate_json(json.dumps(document["spec"]), strict=True)
        assert rules.violation(spec) is None


@pytest.mark.parametrize("folder", sorted({path.parent for path in SAMPLES}), ids=lambda folder: folder.name)
def test_references_between_the_samples_of_a_folder_lead_somewhere(folder: Path) -> None:
    found = [document for path in SAMPLES if path.parent == folder for document in documents(path)]
    names = {
        (document["kind"], document["metadata"]["name"]) for document in found if "name" in document.get("metadata", {})
    }

    for document in found:
        if document["kind"] == "TrainingRun":
            assert ("Dataset", document["spec"]["datasetRef"]["name"]) in names
        reference = document.get("spec", {}).get("model", {}).get("trainingRunRef")
        if reference:
            assert ("TrainingRun", reference["name"]) in names
