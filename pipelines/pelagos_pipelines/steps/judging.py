"""Evaluates a model package on the test split of a dataset version, like models trained here, and records the result.

``python -m pelagos_pipelines.steps.judging`` is run by `pelagos evaluate`. It reads an `EvaluationRequest` from standard input,
and prints one JSON object: an `EvaluationResult`, or ``error``.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pelagos_contract import disk
from pelagos_contract.disk import FullError
from pelagos_contract.failures import RefusedError
from pelagos_contract.imports import EvaluationRequest, EvaluationResult
from pelagos_contract.tags import (
    EVALUATED_TAG,
    MANIFEST_SHA256_TAG,
    ONNX_SHA256_TAG,
    PACKAGE_TAG,
    PACKAGE_URI_TAG,
)
from pelagos_contract.tasks import Task
from pelagos_contract.training import EVIDENCE_FOLDER, MAX_DETECTIONS, MOST_DETECTIONS, EvidenceFile
from pelagos_pipelines import output, storage
from pelagos_pipelines.evaluation import calibrating, evidence, fields, ground_truth, relabelling, slices
from pelagos_pipelines.evaluation import report as evaluation
from pelagos_pipelines.evaluation.relabelling import DifferentClassesError
from pelagos_pipelines.evaluation.tasks import TASKS
from pelagos_pipelines.export.confined import Confined, GraphError
from pelagos_pipelines.preparation import published, versions
from pelagos_pipelines.serving import packages, predictor
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.steps import answering, resampled
from pelagos_pipelines.steps.evaluate import LOWEST_CONFIDENCE
from pelagos_pipelines.storage import StorageError, StorageRefusedError
from pelagos_pipelines.training import registering
from pelagos_pipelines.training.tracking import DatasetUse, Tracker, TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pelagos_pipelines.evaluation.evidence import Evidence
    from pelagos_pipelines.evaluation.samples import GroundTruth
    from pelagos_pipelines.serving.predictions import Prediction
    from pelagos_pipelines.serving.predictor import Predictor

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][-A-Za-z0-9_. ]*)(/(?P<version>[0-9]+)|@(?P<alias>[-A-Za-z0-9_]+))?")
_AT_ONCE = 32
"""Images in memory at a time."""


class JudgingError(Exception):
    """The package cannot be evaluated; the message says why, and what to do."""


@dataclass(frozen=True)
class _Package:
    """A package's uri, the digest that pins it, and the registered model's version that it is, if any."""

    uri: str
    manifest_sha256: str | None
    model: str = ""
    version: str = ""

    @property
    def words(self) -> str:
        return f"{self.model}/{self.version}" if self.model else self.uri


def run(request: EvaluationRequest) -> EvaluationResult:
    """Evaluate the package on the version's test split, and record the result in MLflow.

    Raises:
        JudgingError, DifferentClassesError: the model cannot be evaluated, or has other classes.
        packages.RefusedError: the package is missing, or does not match its digest.
        RefusedError: the dataset version cannot be read.
        StorageError, StorageRefusedError, TrackingError: the storage or MLflow is unavailable, or refuses us.
    """
    named = _named(request)
    with tempfile.TemporaryDirectory(prefix="pelagos-evaluate-") as folder:
        scratch = Path(folder)
        package, manifest = _fetched(named, scratch / "package")
        graph, settings = predictor.read(package, manifest)
        described, content = packages.read(package, manifest)
        truth = _truth(request, described.task, scratch / "dataset")
        renamed = relabelling.between(described.labels, truth.labels)
        samples = truth.samples("test")
        fields.require(samples, request.slices)
        limit = _limit(content)
        thresholds = Thresholds(confidence=LOWEST_CONFIDENCE, max_detections=limit)
        # Scores are predicted without the package's calibration, which is applied, and measured, below.
        own = replace(settings, scaling=None)
        with _fitting(named), closing(Confined(graph, own, len(os.sched_getaffinity(0)), is_known=True)) as model:
            found = [renamed.of(each) for each in _predicted(model, truth, thresholds)]
        figures = scratch / "figures"
        figures.mkdir()
        strategy = TASKS.named(described.task)
        sure = calibrating.Chosen(renamed.labels, settings.scaling, settings.confidences)
        told = sure.told(found)
        measured = evaluation.evaluate(samples, told, renamed.labels, figures)
        warnings = [*renamed.warnings, *measured.warnings, *strategy.limits(truth, told, measured.metrics, limit)]
        known = measured.metrics | calibrating.measured(sure, strategy, samples, found, figures)
        wanted = set(truth.labels)
        metrics = {name: value for name, value in known.items() if _is_of(name, wanted, set(renamed.labels) - wanted)}
        tags = {
            MANIFEST_SHA256_TAG: manifest,
            ONNX_SHA256_TAG: described.files[packages.GRAPH],
            PACKAGE_TAG: named.uri,
            EVALUATED_TAG: f"{request.dataset}@{request.dataset_version}",
        }
        task = Task(described.task)
        groups = slices.fields_of(samples)
        made = evidence.collect(
            task, samples, told, renamed.labels, request.dataset_version, groups, confidences=sure.confidences
        )
        made = replace(made, package=manifest)
        kept, doubts = _kept(made, request.packages, scratch)
        further = resampled.of_evidence([made], request.slices, metrics, figures)
        resampled.draw(task, further, metrics, figures)
        metrics |= further.metrics
        run_id = _tell(request, named, tags, metrics, figures)
    return EvaluationResult(
        metrics=metrics,
        model=named.words,
        package=named.uri,
        images=len(samples),
        labels=list(truth.labels),
        task=task,
        manifest_sha256=manifest,
        run=run_id,
        warnings=[*warnings, *further.warnings, *doubts],
        evidence=kept,
        **further.state,
    )


def _kept(made: Evidence, packages_at: str, scratch: Path) -> tuple[EvidenceFile | None, list[str]]:
    """Keep the evidence under its digest, where the operator finds it for gates. On failure, None and a warning.

    Metrics do not depend on it.
    """
    try:
        place = storage.Place(f"{packages_at.rstrip('/')}/{EVIDENCE_FOLDER}", scratch / "evidence")
        digest = evidence.write(made, scratch / evidence.NAME)
        path = place.folder / f"{digest.removeprefix('sha256:')}.npz"
        disk.write_atomically(path, (scratch / evidence.NAME).read_bytes(), parents=True)
        place.push(lambda name: name == path.name)
    except (evidence.EvidenceError, StorageError, StorageRefusedError, FullError, OSError) as error:
        return None, [
            f"what the model did with each image is not kept, and no gate can compare with it: {packages_at}: {error}"
        ]
    return EvidenceFile(uri=place.kept_as(path), sha256=digest, test=made.test), []


def _limit(description: bytes) -> int:
    """The most detections per image, from the package, or the default."""
    thresholds = json.loads(description).get("thresholds")
    most = thresholds.get("maxDetections") if isinstance(thresholds, dict) else None
    return most if type(most) is int and 1 <= most <= MOST_DETECTIONS else MAX_DETECTIONS


def _named(request: EvaluationRequest) -> _Package:
    """The package that the request names."""
    if request.package is not None:
        return _Package(request.package.rstrip("/"), request.manifest_sha256)
    named = _NAMED.fullmatch(request.model or "")
    if named is None:
        raise JudgingError(
            f"{request.model!r} must be a registered model as name, name/version or name@alias, or the uri of a package"
        )
    name = named["name"]
    with registering.asking(request.tracked.uri) as client:
        found = [one for one in client.search_model_versions(f"name = '{name}'") if one.name == name]
        if named["alias"] is not None and found:
            aliases = client.get_registered_model(name).aliases
            wanted = str(aliases.get(named["alias"], ""))
        else:
            wanted = named["version"] or str(max((int(one.version) for one in found), default=0))
    there = ", ".join(sorted((str(one.version) for one in found), key=int)) or "none"
    chosen = next((one for one in found if str(one.version) == wanted), None)
    if chosen is None:
        raise JudgingError(f"MLflow has no such version as {request.model}; of {name} there are versions {there}")
    uri, manifest = chosen.tags.get(PACKAGE_URI_TAG), chosen.tags.get(MANIFEST_SHA256_TAG)
    if not uri or not manifest or not packages.is_digest(manifest):
        raise JudgingError(
            f"version {wanted} of {name} was registered by something else: nothing says where its package is"
        )
    # The tag is untrusted: anyone who may write to MLflow can set it.
    if not uri.startswith(f"{request.packages.rstrip('/')}/") or ".." in uri.split("/"):
        raise JudgingError(
            f"version {wanted} of {name} names a package at {uri}, which is not below {request.packages}"
        )
    return _Package(uri.rstrip("/"), manifest, name, wanted)


def _fetched(named: _Package, target: Path) -> tuple[Path, str]:
    """The package on this machine, compared with its digest, and that digest."""
    target.mkdir()
    folder = Path(named.uri)
    if storage.is_remote(named.uri):
        folder = target.with_name("remote")
        folder.mkdir()
        bucket = storage.Bucket(named.uri)
        for name in (packages.DESCRIPTION, *packages.FILES):
            found = bucket.find(name)
            if found is None:
                raise JudgingError(f"{named.uri}/{name} is missing: there is no complete model package")
            packages.require_size(f"{named.uri}/{name}", found.size, name)
            bucket.download(name, folder / name, etag=found.etag)
    manifest = named.manifest_sha256 or folder.name
    if not packages.is_digest(manifest):
        raise JudgingError(
            f"nothing says what the package at {named.uri} must be; state the sha256 of its package.json with --sha256"
        )
    packages.verify(folder, manifest, target)
    return target, manifest


def _truth(request: EvaluationRequest, task: str, scratch: Path) -> GroundTruth:
    """The ground truth of the version, with the images of its test split on this machine."""
    uri = request.dataset_uri
    here = published.download(uri, scratch, ("test",)) if storage.is_remote(uri) else Path(uri)
    version = versions.read(here)
    versions.verify(version)
    if version.digest.removeprefix("sha256:") != request.dataset_version.removeprefix("sha256:"):
        raise JudgingError(f"{uri} holds the version {version.digest}, and {request.dataset_version} was meant")
    if version.collection.task.value != task:
        raise JudgingError(
            f"the model is for {task}, and Dataset {request.dataset} is annotated for {version.collection.task.value}"
        )
    truth = ground_truth.of_version(version)
    if not truth.samples("test"):
        raise JudgingError(
            f"Dataset {request.dataset} has no images in its test split; give it a share in spec.split.ratios"
        )
    return truth


@contextmanager
def _fitting(named: _Package) -> Iterator[None]:
    """Translate errors of running a graph. It is untrusted, and fails in many ways if its package describes it wrongly."""
    try:
        yield
    except (packages.RefusedError, RefusedError, OSError, MemoryError):
        raise
    except GraphError as error:
        raise JudgingError(
            f"the model of {named.uri} is not what its package says, or cannot be run: {error}; import the model again"
        ) from None
    except Exception as error:
        raise JudgingError(
            f"the model of {named.uri} cannot be run, or its output is not what its package says ({type(error).__name__}):"
            " import the model again"
        ) from None


def _predicted(model: Predictor, truth: GroundTruth, thresholds: Thresholds) -> Sequence[Prediction]:
    """The model's prediction for each image of the test split. It corrects colours itself, as its package says."""
    samples, found = truth.samples("test"), []
    for start in range(0, len(samples), _AT_ONCE):
        found += model.predict([one.stored() for one in samples[start : start + _AT_ONCE]], thresholds)
        sys.stderr.write(f"{len(found)} of {len(samples)} images of the test split\n")
    return found


def _is_of(metric: str, wanted: set[str], others: set[str]) -> bool:
    """Whether a metric is over all classes, or for one that the dataset has."""
    _, _, name = metric.removeprefix("test/").partition("/")
    return not name or name in wanted or name not in others


def _tell(
    request: EvaluationRequest, named: _Package, tags: dict[str, str], metrics: dict[str, float | None], figures: Path
) -> str:
    """Record everything in a run of MLflow, and tag the registered model's version. Returns the run's id."""
    with registering.asking(request.tracked.uri) as client:
        words = f"{named.words[-80:]} on {request.dataset}"
        run_id = registering.begin(client, request.tracked, registering.EVALUATIONS, words, tags)
    tracker = Tracker(request.tracked.uri, run_id)
    version = request.dataset_version
    tracker.dataset(DatasetUse(request.dataset, version, request.dataset_uri, "testing"))
    parameters = {"model": named.words, "dataset": request.dataset, "datasetVersion": version, "package": named.uri}
    tracker.describe({name: value[:500] for name, value in parameters.items()}, {})
    tracker.metrics({name: value for name, value in metrics.items() if value is not None}, 0, time.time())
    for path in sorted(figures.glob("*.png")):
        tracker.file(path, "figures")
    tracker.file(figures / resampled.INTERVALS, resampled.FOLDER)
    tracker.flush()
    with registering.asking(request.tracked.uri) as client:
        client.set_terminated(run_id)
        # The tag comes last, so that the figures are there for anyone who sees it.
        if named.model:
            client.set_model_version_tag(named.model, named.version, EVALUATED_TAG, tags[EVALUATED_TAG])
    return run_id


def main() -> int:
    """Evaluate the package that standard input names, and print the result. Returns the exit code."""
    output.guard_output()

    def answered() -> EvaluationResult:
        try:
            return run(EvaluationRequest.model_validate_json(sys.stdin.buffer.read()))
        except RefusedError as error:
            raise JudgingError(error.failure.message) from None

    expected = (
        JudgingError,
        DifferentClassesError,
        packages.RefusedError,
        StorageError,
        StorageRefusedError,
        TrackingError,
        OSError,
        ValidationError,
    )
    return answering.answer(answered, expected)


if __name__ == "__main__":
    sys.exit(main())
