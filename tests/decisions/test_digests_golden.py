"""An upgrade keeps the digests, names and keys of what exists: here they are as first computed.

``digests_golden.json`` is append-only. If a digest in it changed, an upgrade would create users' versions, trainings or servers
again. A new field of a spec gets its own case: add it with empty digests, and take those of the failure message.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import builders
import later_specs
from builders import MODEL, dataset_version, make_service_observed
from pelagos.api.dataset import DatasetSpec
from pelagos.api.model_service import ModelServiceSpec
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions import digests, placing
from pelagos.decisions.dataset import identity as dataset
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.training_run import identity as training_run
from pelagos.ports.placement import Placement, Toleration
from pelagos.ports.serving import DesiredService, Scaling
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


def of_dataset(spec: builders.Yaml, of: type[DatasetSpec] = DatasetSpec) -> dict[str, str]:
    parsed = of.model_validate(spec)
    key = dataset.inputs(parsed, Fingerprint("sha256:source", 12)).digest
    return {
        "recipe": digests.digest(dataset.recipe(parsed)),
        "inputs": key,
        "run": dataset.name_run("uid-1", key),
    }


def of_training_run(spec: builders.Yaml, of: type[TrainingRunSpec] = TrainingRunSpec) -> dict[str, str]:
    parsed = of.model_validate(spec)
    frozen = training_run.freeze(parsed, dataset_version())
    return {
        "inputs": frozen.digest,
        "run": training_run.name_run("uid-2", frozen),
        "record": training_run.record_key(frozen),
        "resources": training_run.resources_key(parsed),
    }


def of_model_service(spec: builders.Yaml, of: type[ModelServiceSpec] = ModelServiceSpec) -> dict[str, str]:
    parsed = of.model_validate(spec)
    out: dict[str, str] = {}
    for name, tenant in TENANTS.items():
        want = endpoint.wanted(make_service_observed(spec=parsed, tenant=tenant), MODEL)
        out |= {f"pods {name}": want.pod_template_digest, f"service {name}": want.digest}
    return out


OF: dict[str, tuple[Callable[..., dict[str, str]], Any]] = {
    "Dataset": (of_dataset, DatasetSpec),
    "TrainingRun": (of_training_run, TrainingRunSpec),
    "ModelService": (of_model_service, ModelServiceSpec),
}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}, {case['name']}")


@each_case
def test_a_spec_has_the_digests_that_it_always_had(case: dict[str, Any]) -> None:
    digests_of, _ = OF[case["kind"]]

    assert digests_of(case["spec"]) == case["digests"]


@functools.cache
def grown(of: Any) -> Any:
    return later_specs.changed(of, grown=True)


@pytest.fixture
def everything_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of every spec, and of the desired state of serving, has one more field with a default."""
    monkeypatch.setattr(training_run, "TrainingRunSpec", grown(TrainingRunSpec))
    for of in (DesiredService, Scaling, Tenant):
        monkeypatch.setattr(endpoint, of.__name__, later_specs.grown_dataclass(of))
    for part in (Placement, Toleration):
        monkeypatch.setattr(placing, part.__name__, later_specs.grown_dataclass(part))


@pytest.mark.usefixtures("everything_grown")
@each_case
def test_a_field_that_is_added_everywhere_with_a_default_changes_no_digest(case: dict[str, Any]) -> None:
    digests_of, spec = OF[case["kind"]]

    assert digests_of(case["spec"], grown(spec)) == case["digests"]


@pytest.mark.usefixtures("everything_grown")
@pytest.mark.parametrize(("kind", "part"), [("Dataset", "cleaning"), ("TrainingRun", "hyperparameters")])
def test_the_field_is_in_the_digest_once_it_says_something(kind: str, part: str) -> None:
    digests_of, spec = OF[kind]
    minimal = next(case for case in CASES if case["kind"] == kind)

    later = digests_of(minimal["spec"] | {part: {"later": 8}}, grown(spec))

    assert later["inputs"] != minimal["digests"]["inputs"]


def test_what_serving_is_asked_for_is_in_the_digest_once_it_says_something() -> None:
    later = later_specs.grown_dataclass(Placement)

    assert endpoint.HISTORY.canonical(later(), "placement", only_unusual=True) == {}
    assert endpoint.HISTORY.canonical(later(later=8), "placement", only_unusual=True) == {"later": 8}


def samples() -> Iterator[tuple[str, str, Any]]:
    for path in sorted((ROOT / "manifests/samples").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_bytes()):
            if document and document.get("kind") in OF and "spec" in document:
                yield document["kind"], str(path.relative_to(ROOT)), document["spec"]


def test_every_sample_has_a_case() -> None:
    known = [(case["kind"], case["spec"]) for case in CASES]

    missing = [
        json.dumps({"kind": kind, "name": path, "spec": spec, "digests": OF[kind][0](spec)})
        for kind, path, spec in samples()
        if (kind, spec) not in known
    ]
    assert missing == [], "append these lines to digests_golden.json:\n" + ",\n".join(missing)


def test_a_priority_is_in_no_digest() -> None:
    assert of_dataset({**builders.DATASET, "priority": "high"}) == of_dataset(builders.DATASET)
    assert of_training_run({**builders.TRAINING_RUN, "priority": "high"}) == of_training_run(builders.TRAINING_RUN)
