"""An upgrade leaves the digests, names and keys of what exists: they are here as they were when they were first computed.

``digests_golden.json`` is append-only. A figure in it that changes would make versions, trainings or servers of users again after
an upgrade. A new field of a spec gets a case of its own: add it with empty digests, and take what the failure says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import builders
from builders import MODEL, dataset_version, make_service_observed
from pelagos.api.dataset import DatasetSpec
from pelagos.api.model_service import ModelServiceSpec
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions import digests
from pelagos.decisions.dataset import identity as dataset
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.training_run import identity as training_run
from pelagos.ports.tenants import Tenant
from pelagos.ports.volumes import Fingerprint

ROOT = Path(__file__).parents[2]
CASES = json.loads(Path(__file__).with_name("digests_golden.json").read_bytes())
TENANTS = {
    "of the installation": Tenant(),
    "with all for servers": Tenant(
        service_account="models",
        objects_secret="objects",
        objects_claim="objects",
        ca_config_map="authorities",
        image_pull_secrets=("registry",),
    ),
    "with nothing for servers": Tenant(storage_prefix="a", queue="b", tracking_secret="c", max_gpus=2),
}


def of_dataset(spec: builders.Yaml) -> dict[str, str]:
    parsed = DatasetSpec.model_validate(spec)
    key = dataset.inputs_digest(parsed, Fingerprint("sha256:source", 12))
    return {
        "recipe": digests.digest(dataset.recipe(parsed)),
        "inputs": key,
        "run": dataset.name_run("uid-1", key),
    }


def of_training_run(spec: builders.Yaml) -> dict[str, str]:
    parsed = TrainingRunSpec.model_validate(spec)
    frozen = training_run.Frozen(training_run.inputs(parsed), dataset_version())
    return {
        "inputs": frozen.digest,
        "run": training_run.name_run("uid-2", frozen),
        "record": training_run.record_key(frozen),
        "resources": training_run.resources_key(parsed),
    }


def of_model_service(spec: builders.Yaml) -> dict[str, str]:
    parsed = ModelServiceSpec.model_validate(spec)
    out: dict[str, str] = {}
    for name, tenant in TENANTS.items():
        want = endpoint.wanted(make_service_observed(spec=parsed, tenant=tenant), MODEL)
        out |= {f"pods {name}": want.pod_template_digest, f"service {name}": want.digest}
    return out


OF = {"Dataset": of_dataset, "TrainingRun": of_training_run, "ModelService": of_model_service}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}, {case['name']}")
def test_a_spec_has_the_digests_that_it_always_had(case: dict[str, Any]) -> None:
    assert OF[case["kind"]](case["spec"]) == case["digests"]


def samples() -> Iterator[tuple[str, str, Any]]:
    for path in sorted((ROOT / "manifests/samples").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_bytes()):
            if document and document.get("kind") in OF and "spec" in document:
                yield document["kind"], str(path.relative_to(ROOT)), document["spec"]


def test_every_sample_has_a_case() -> None:
    known = [(case["kind"], case["spec"]) for case in CASES]

    assert [path for kind, path, spec in samples() if (kind, spec) not in known] == []
