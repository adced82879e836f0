"""The configuration for kube-state-metrics: its paths lead to values in statuses as the operator writes them.

The bodies here are validated by the API types; test_incidents evaluates it on resources of a real API server.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import state_metrics
from monitoring_tools import MANIFESTS, Promtool
from pelagos.api import kinds
from pelagos_contract.fair.indicators import PRINCIPLES
from state_metrics import Sample

CONDITIONS = [
    {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "m",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
]
DIGEST = "sha256:" + "a" * 64
STATUSES: dict[str, dict[str, Any]] = {
    "Dataset": {
        "version": DIGEST,
        "uri": "/store/a",
        "task": "Detection",
        "images": 10,
        "annotations": 25,
        "classes": [{"name": "Akashiwo", "images": 7, "annotations": 20}],
        "splits": {"train": {"images": 7}, "validation": {"images": 2}, "test": {"images": 1}},
        "fair": {"score": 58, **dict.fromkeys(PRINCIPLES, 58), "failed": ["RDA-F1-01M"]},
        "quality": {"found": 11, "corrupt": 1, "duplicates": 0, "nearDuplicates": 0, "tooSmall": 0, "leakage": 0},
        "leakage": {
            "evaluated": 3,
            "leaked": 1,
            "sharedGroups": 1,
            "found": [{"kind": "Group", "split": "test", "other": "train", "images": 1, "groups": 1}],
        },
        "files": {"found": 14, "images": 10, "annotations": 2, "excluded": 2},
        "excluded": [
            {"reason": "Corrupt", "files": 1, "first": ["a.png"]},
            {"reason": "NotAnImage", "files": 1, "first": ["notes.md"]},
        ],
        "versions": [
            {
                "version": DIGEST,
                "createdAt": "2026-01-01T00:00:00Z",
                "images": 10,
                "uri": "/store/a",
                "task": "Detection",
                "reason": "First",
            }
        ],
    },
    "TrainingRun": {
        "dataset": {"name": "plankton", "version": DIGEST, "uri": "/store/a", "task": "Detection"},
        "progress": {"epoch": 2, "epochs": 3, "percent": 66},
        "metrics": {"test/mAP50": "0.6100"},
        "gates": [
            {"metric": "test/mAP50", "value": "0.6100", "minimum": "0.5", "passed": True},
            {"metric": "test/mAP50", "champion": {"model": "plankton", "version": "2"}, "passed": True},
            {"metric": "test/ECE", "value": "0.2000", "maximum": "0.1", "passed": False},
        ],
        "model": {"uri": "/store/m", "onnxSha256": "b" * 64, "name": "plankton-detector", "version": "3"},
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:02:00Z",
    },
    "ModelService": {
        "model": {"name": "detector", "uri": "/store/m", "onnxSha256": "b" * 64, "source": "TrainingRun detector"},
        "restarts": 1,
    },
    "Trial": {"phase": "Open", "model": "ModelService detector", "expiresAt": "2026-01-01T00:10:00Z"},
}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((MANIFESTS / "kube-state-metrics.config.yaml").read_text(encoding="utf-8"))
    return parsed


def body(kind: kinds.Kind, status: dict[str, Any] | None) -> dict[str, Any]:
    """A resource with a status that the API types accept."""
    full = None if status is None else {"observedGeneration": 1, "conditions": CONDITIONS, **status}
    if full is not None:
        kind.status.model_validate(full)
    metadata = {"namespace": "plankton", "name": "one", "creationTimestamp": "2026-01-01T00:00:00Z"}
    made = {"apiVersion": "pelagos.dev/v1alpha1", "kind": kind.kind, "metadata": metadata}
    return made if full is None else {**made, "status": full}


@pytest.fixture(scope="module")
def samples(config: dict[str, Any]) -> list[Sample]:
    return state_metrics.evaluate(config, [body(kind, STATUSES[kind.kind]) for kind in kinds.KINDS])


def value(samples: list[Sample], name: str, **labels: str) -> float:
    (found,) = [sample for sample in samples if sample.name == name and labels.items() <= dict(sample.labels).items()]
    return found.value


def test_every_metric_yields_a_value(config: dict[str, Any], samples: list[Sample]) -> None:
    assert {sample.name for sample in samples} == set(state_metrics.names(config))


def test_every_kind_is_told_of_with_namespace_and_name(config: dict[str, Any], samples: list[Sample]) -> None:
    told = [resource["groupVersionKind"]["kind"] for resource in config["spec"]["resources"]]

    assert told == [kind.kind for kind in kinds.KINDS]
    for sample in samples:
        assert {("namespace", "plankton"), ("name", "one")} <= set(sample.labels)


@pytest.mark.parametrize("kind", [kind.kind.lower() for kind in kinds.KINDS])
def test_a_condition_is_one_for_the_status_that_it_has(samples: list[Sample], kind: str) -> None:
    for status, want in (("True", 1), ("False", 0), ("Unknown", 0)):
        assert value(samples, f"pelagos_{kind}_condition", type="Ready", status=status, reason="Serving") == want


def test_values_are_those_of_the_status(samples: list[Sample]) -> None:
    assert value(samples, "pelagos_dataset_class_images", **{"class": "Akashiwo"}) == 7
    assert value(samples, "pelagos_dataset_split_images", split="validation") == 2
    assert value(samples, "pelagos_dataset_fair_score") == 58
    assert value(samples, "pelagos_dataset_leaked_images", kind="Group", split="test", other="train") == 1
    assert value(samples, "pelagos_dataset_quality_findings", finding="corrupt") == 1
    assert value(samples, "pelagos_dataset_files", part="found") == 14
    assert value(samples, "pelagos_dataset_excluded_files", reason="NotAnImage") == 1
    assert value(samples, "pelagos_trainingrun_metric", metric="test/mAP50") == 0.61
    assert value(samples, "pelagos_trainingrun_gate_passed", metric="test/mAP50", minimum="0.5") == 1
    assert value(samples, "pelagos_trainingrun_gate_passed", champion="plankton", champion_version="2") == 1
    assert value(samples, "pelagos_trainingrun_gate_passed", metric="test/ECE", maximum="0.1") == 0
    assert value(samples, "pelagos_trial_phase", phase="Open") == 1
    assert value(samples, "pelagos_trial_phase", phase="Expired") == 0
    started = value(samples, "pelagos_trainingrun_started_timestamp_seconds")
    assert value(samples, "pelagos_trainingrun_finished_timestamp_seconds") - started == 120
    assert value(samples, "pelagos_trainingrun_model_info", model="plankton-detector", dataset="plankton") == 1
    assert value(samples, "pelagos_modelservice_restarts") == 1


def test_a_resource_without_status_has_only_its_age(config: dict[str, Any]) -> None:
    found = state_metrics.evaluate(config, [body(kind, None) for kind in kinds.KINDS])

    assert {sample.name.rpartition("_created")[1] for sample in found} == {"_created"}


def test_promtool_finds_no_fault_in_what_is_exposed(samples: list[Sample], promtool: Promtool) -> None:
    said = promtool("check", "metrics", text=_with_help(state_metrics.exposition(samples)))

    assert said.strip() == ""


def _with_help(text: str) -> str:
    """Add help texts, which kube-state-metrics writes and promtool requires."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            lines.append(f"# HELP {line.split()[2]} Told.")
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Other"}, "CustomResourceStateMetrics"),
        ({"spec": {"resources": [{"groupVersionKind": {}, "metricPrefix": "x"}]}}, "metricPrefix"),
    ],
)
def test_a_faulty_configuration_is_reported(config: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        state_metrics.evaluate({**config, **change}, [body(kinds.DATASET, None)])
