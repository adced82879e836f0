"""Specs as users write them, and observed worlds for decisions. Impossible worlds are refused: no test may start from one.

Every builder gives a usual value; a test names only what it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pelagos.api.dataset import DatasetSpec
from pelagos.api.model_service import ModelServiceSpec
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions.dataset import identity as dataset_identity
from pelagos.decisions.dataset import observed as dataset_observed
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.model_service import observed as model_service_observed
from pelagos.decisions.reports import Recording, Report
from pelagos.decisions.training_run import identity as training_run_identity
from pelagos.decisions.training_run import observed as training_run_observed
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState
from pelagos.ports.registry import ModelVersion
from pelagos.ports.serving import ObservedService, ProbeResult, ServiceState
from pelagos.ports.tracking import Outcome, TrackedRun
from pelagos.ports.volumes import Fingerprint
from pelagos_contract.tags import MANIFEST_SHA256_TAG, ONNX_SHA256_TAG, PACKAGE_URI_TAG

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VERSION = "sha256:" + "a1" * 32
OTHER_VERSION = "sha256:" + "b2" * 32
ONNX = "c3" * 32
MANIFEST = "e5" * 32
Yaml = Mapping[str, Any]

DATASET: Yaml = {"source": {"volume": {"path": "samples/frames"}}, "task": "Detection"}
TRAINING_RUN: Yaml = {
    "datasetRef": {"name": "frames"},
    "model": {"architecture": "yolov8n"},
    "hyperparameters": {"epochs": 10},
    "gates": [{"metric": "test/mAP50", "minimum": "0.5"}],
    "register": {"model": "detector", "alias": "champion"},
}
MODEL_SERVICE: Yaml = {"model": {"trainingRunRef": {"name": "detector"}}}
TRIAL: Yaml = {"modelServiceRef": {"name": "detector"}}
BASES: Mapping[str, Yaml] = {
    "Dataset": DATASET,
    "TrainingRun": TRAINING_RUN,
    "ModelService": MODEL_SERVICE,
    "Trial": TRIAL,
}
"""The usual spec of each kind."""


class ImpossibleWorldError(Exception):
    """The test asks for a world that no sequence of events leads to."""


def changed(spec: Yaml, changes: Yaml) -> dict[str, Any]:
    """``spec`` with ``changes`` merged in; None removes a field (RFC 7396)."""
    result = dict(spec)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            result[name] = changed(result.get(name) or {}, value)
        else:
            result[name] = value
    return result


def dataset_spec(**changes: Any) -> DatasetSpec:
    """A Dataset for detection whose source is a folder of the volume."""
    return DatasetSpec.model_validate(changed(DATASET, changes))


def training_run_spec(**changes: Any) -> TrainingRunSpec:
    """A TrainingRun of 10 epochs with one gate that registers its model."""
    return TrainingRunSpec.model_validate(changed(TRAINING_RUN, changes))


def model_service_spec(**changes: Any) -> ModelServiceSpec:
    """A ModelService that serves the model of a TrainingRun."""
    return ModelServiceSpec.model_validate(changed(MODEL_SERVICE, changes))


def make_run(state: RunState, **changes: Any) -> PipelineRun:
    """A pipeline run that started a minute ago and, if its state says so, ended just now. The world's builder sets its name."""
    started = None if state is RunState.PENDING else NOW - timedelta(minutes=1)
    usual = PipelineRun(
        name=RunName(""),
        state=state,
        attempt=1,
        retry_key="",
        attempts_with_key=1,
        message="",
        url="http://pipelines/log",
        started_at=started,
        finished_at=NOW if state in FINISHED else None,
    )
    return replace(usual, **changes)


def preparation_result(**changes: Any) -> dict[str, Any]:
    """The result that a preparation reports."""
    return {
        "version": VERSION,
        "uri": "/objects/v1",
        "images": 100,
        "annotations": 250,
        "classes": [{"name": "copepod", "images": 90, "annotations": 200}],
        "splits": {"train": {"images": 70}, "validation": {"images": 15}, "test": {"images": 15}},
        "quality": {"found": 103, "corrupt": 1, "duplicates": 2, "nearDuplicates": 0, "tooSmall": 0, "leakage": 0},
        "files": {"found": 106, "images": 100, "annotations": 2, "excluded": 4},
        "excluded": [
            {"reason": "Corrupt", "files": 1, "first": ["broken.png"]},
            {"reason": "Duplicate", "files": 2, "first": ["1.png", "2.png"]},
            {"reason": "NotAnImage", "files": 1, "first": ["notes.md"]},
        ],
        "warnings": [],
    } | changes


def training_result(**metrics: float | None) -> dict[str, Any]:
    """The result that a training reports; ``metrics`` are those of the test split, by the last part of their names."""
    found = {"mAP50": 0.8, "mAP50-95": 0.4} | metrics
    named = {f"test/{name}": value for name, value in found.items()} | {"test/mAP50/copepod": 0.7}
    package: dict[str, Any] = {"uri": "/objects/model", "onnxSha256": ONNX, "manifestSha256": MANIFEST}
    package |= {"task": "Detection", "labels": ["copepod"]}
    return {"metrics": named, "epochs": 10, "model": package | {"parity": {"images": 8, "boxes": 0.1, "scores": 0.001}}}


RECORDING = Recording(
    "records/one.json", "/objects/records/one.json", {"key": "sha256:one"}, is_kept=True, newest="records/newest.json"
)
"""A result that is on record in the status."""


def make_dataset_observed(**changes: Any) -> dataset_observed.Observed:
    """A Dataset with a source that was never prepared."""
    seen = dataset_observed.Observed(
        spec=dataset_spec(),
        namespace="default",
        name="frames",
        uid="uid-1",
        retry="",
        fingerprint=Fingerprint("sha256:source", 12),
        source_error=None,
        run=None,
        report=Report(),
        superseded=(),
        history=(),
        data_root="/data",
        store="/objects/datasets/default/uid-1",
        report_folder="/objects/reports/run",
        now=NOW,
        record=RECORDING,
    )
    seen = replace(seen, **changes)
    if seen.run is not None and seen.fingerprint is not None:
        name = dataset_identity.name_run(seen.uid, seen.inputs.digest)
        seen = replace(seen, run=replace(seen.run, name=name))
    _refuse_impossible_runs(seen.run, seen.report)
    _refuse(
        (seen.fingerprint is not None and seen.source_error is not None, "a source cannot be read and refused"),
        (seen.run is not None and seen.fingerprint is None, "a run belongs to the source that is seen"),
        (any(run.state in FINISHED for run in seen.superseded), "a run that has finished need not be superseded"),
    )
    return seen


def dataset_version(version: str = VERSION, task: str = "Detection") -> training_run_identity.DatasetVersion:
    """A version of the Dataset."""
    return training_run_identity.DatasetVersion("frames", version, f"/objects/{version[7:11]}", task)


def dataset_seen(**changes: Any) -> training_run_observed.ObservedDataset:
    """A Dataset that is Ready with one version."""
    usual = training_run_observed.ObservedDataset(
        exists=True, ready=True, message="100 images", candidate=dataset_version(), known_versions=(VERSION,)
    )
    return replace(usual, **changes)


def frozen_inputs(**changes: Any) -> training_run_identity.Frozen:
    """The frozen inputs of the usual TrainingRun; ``changes`` apply to its spec."""
    return training_run_identity.freeze(training_run_spec(**changes), dataset_version())


def make_tracked(**changes: Any) -> TrackedRun:
    """A tracked run without metrics."""
    usual = TrackedRun(
        id="t1",
        experiment="default/frames",
        url="http://tracking/t1",
        outcome=Outcome.RUNNING,
        tags={},
        metrics={},
        artifact_uri="mlflow-artifacts:/t1/artifacts",
    )
    return replace(usual, **changes)


def model_version(**changes: Any) -> ModelVersion:
    """A model version that a TrainingRun registered."""
    tags = {PACKAGE_URI_TAG: "/objects/model", ONNX_SHA256_TAG: ONNX, MANIFEST_SHA256_TAG: MANIFEST}
    usual = ModelVersion("detector", "3", "mlflow-artifacts:/t1/artifacts/model", "t1", ("champion",), tags)
    return replace(usual, **changes)


def make_training_observed(**changes: Any) -> training_run_observed.Observed:
    """A TrainingRun for which nothing was started yet, with a Ready Dataset."""
    seen = training_run_observed.Observed(
        spec=training_run_spec(),
        namespace="default",
        name="detector",
        uid="uid-2",
        retry_key="",
        dataset=dataset_seen(),
        frozen=None,
        tracked=None,
        tracking_outage=None,
        tracking_uri="http://tracking",
        run=None,
        report=Report(),
        version=None,
        registry_outage=None,
        paths={"data_root": "/data", "store": "/store", "report": "/report", "workspace": "/workspace"},
        now=NOW,
        record=RECORDING,
    )
    seen = replace(seen, **changes)
    keyed = seen.frozen
    if keyed is None and seen.dataset.candidate is not None:
        keyed = training_run_identity.freeze(seen.spec, seen.dataset.candidate)
    if seen.run is not None and keyed is not None:
        seen = replace(seen, run=replace(seen.run, name=training_run_identity.name_run(seen.uid, keyed)))
    _refuse_impossible_runs(seen.run, seen.report)
    _refuse(
        (seen.run is not None and keyed is None, "a run without inputs"),
        (seen.tracked is not None and seen.tracking_outage is not None, "a tracked run seen during an outage"),
        (seen.version is not None and seen.registry_outage is not None, "a version seen during an outage"),
        (seen.version is not None and seen.report.result is None, "the registry is asked for trained models only"),
        (
            seen.registry_outage is not None and seen.report.result is None,
            "the registry is asked for trained models only",
        ),
        (seen.spec.register_ is None and seen.version is not None, "the registry is asked only when spec says so"),
        (not seen.dataset.exists and (seen.dataset.ready or seen.dataset.candidate is not None), "a ghost is Ready"),
    )
    return seen


def trained(**changes: Any) -> training_run_observed.Observed:
    """A TrainingRun whose pipeline run has just succeeded; its model is not registered yet."""
    usual: dict[str, Any] = {
        "frozen": frozen_inputs(),
        "tracked": make_tracked(outcome=Outcome.FINISHED),
        "run": make_run(RunState.SUCCEEDED),
        "report": Report(result=training_result()),
    }
    return make_training_observed(**usual | changes)


def make_service(state: ServiceState, **changes: Any) -> ObservedService:
    """An endpoint of the desired version; the world's builder sets its digest unless the test names another."""
    usual = ObservedService(
        digest="",
        state=state,
        message="",
        grpc_url="" if state is ServiceState.DEAD else "127.0.0.1:8001",
        http_url="" if state is ServiceState.DEAD else "http://127.0.0.1:8000",
        metrics_url="" if state is ServiceState.DEAD else "http://127.0.0.1:8002/metrics",
        onnx_sha256=ONNX,
        restarts=0,
        changed_at=NOW,
    )
    return replace(usual, **changes)


RIGHT = ProbeResult(correct=True, message="", latency=0.01)
WRONG = ProbeResult(correct=False, message="1 box, and 3 were expected", latency=0.01)
MODEL = model_service_observed.ResolvedModel("/objects/model", ONNX, MANIFEST, "TrainingRun detector")


def make_service_observed(**changes: Any) -> model_service_observed.Observed:
    """A ModelService whose model exists and for which nothing runs yet."""
    seen = model_service_observed.Observed(
        spec=model_service_spec(),
        namespace="default",
        name="detector",
        uid="uid-3",
        retry="",
        model=MODEL,
        last_model=None,
        last_reference=None,
        service=None,
        probe=None,
        wrong_probes=0,
        now=NOW,
    )
    seen = replace(seen, **changes)
    served = seen.model if isinstance(seen.model, model_service_observed.ResolvedModel) else seen.last_model
    if seen.service is not None and not seen.service.digest and served is not None:
        seen = replace(seen, service=replace(seen.service, digest=endpoint.wanted(seen, served).digest))
    loaded = seen.service is not None and seen.service.state is ServiceState.LOADED
    _refuse(
        (seen.probe is not None and not loaded, "only a loaded model is probed"),
        ((seen.wrong_probes > 0) != (seen.probe is not None and not seen.probe.correct), "wrong probes are counted"),
        (seen.service is not None and not seen.service.digest, "an endpoint for no model"),
    )
    return seen


def _refuse_impossible_runs(run: PipelineRun | None, report: Report) -> None:
    _refuse((bool(report.result) and bool(report.failure), "a report is a result or a failure"))
    if run is None:
        _refuse((bool(report.failure) or bool(report.doubt), "a failure without a run"))
        return
    _refuse(
        (not 1 <= run.attempts_with_key <= run.attempt, "attempts with this key are some of all attempts"),
        (run.state not in FINISHED and run.finished_at is not None, "a run has ended that goes on"),
        (run.state is RunState.PENDING and run.started_at is not None, "a run has started that waits"),
        (run.state is RunState.RUNNING and run.started_at is None, "a run goes on that did not start"),
    )


def _refuse(*rules: tuple[bool, str]) -> None:
    for broken, why in rules:
        if broken:
            raise ImpossibleWorldError(why)


def conditions(decision: Any) -> dict[str, tuple[str, str]]:
    """State and reason of every verdict, by the condition's type."""
    return {verdict.type: (verdict.state.value, verdict.reason) for verdict in decision.verdicts}


def names(instance: Any) -> tuple[str, ...]:
    """Names of the fields of a dataclass."""
    return tuple(field.name for field in fields(instance))
