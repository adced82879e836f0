"""The step export: the best checkpoint to a proven model package, and the report of the whole training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos_pipelines import contract
from pelagos_pipelines.contract import ModelPackage, Parity, TrainingResult
from pelagos_pipelines.serving import packages
from pelagos_pipelines.tasks import evaluate, runs, train

if TYPE_CHECKING:
    from pelagos_pipelines.serving.geometry import Pixels
    from pelagos_pipelines.serving.predictor import Prediction, Settings
    from pelagos_pipelines.training.families import Family

PARITY_IMAGES = 16
PROBE_MARGIN = 0.02
"""The probe's detections stay this far from the confidence threshold, so that rounding cannot make one vanish."""


def export(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Export, prove parity, write the package below ``store`` and ``result.json`` into ``report``.

    Raises:
        RefusedError: PARITY_FAILED, DISK_FULL; ``failure.json`` says what differs.
        TrackingError: MLflow could not be reached.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        if not (run.report / "result.json").exists():
            _export(run)


def _export(run: runs.Run) -> None:
    from pelagos_pipelines.evaluation import truth
    from pelagos_pipelines.export import package
    from pelagos_pipelines.training.families import family_of
    from pelagos_pipelines.training.tracking import Tracker

    family = family_of(run.request)
    tracker = Tracker(run.tracking_uri, run.tracking_run)
    onnx = run.workspace / "model.onnx"
    settings = family.export(run.checkpoints / "best.pt", onnx)
    samples = truth.read(run.with_dataset("test")).samples("test")
    images = [sample.pixels() for sample in samples[:: max(len(samples) // PARITY_IMAGES, 1)][:PARITY_IMAGES]]
    parity = _prove(run, family, settings, images)
    probe, known = _probe(run, family, images)
    written = package.write(
        package.Content(
            family=family.NAME,
            architecture=run.request.model.architecture,
            dataset={"name": run.request.dataset.name, "version": run.request.dataset.version},
            settings=settings,
            onnx=onnx,
            parity=parity,
            probe=probe,
            known=known,
        ),
        run.store,
    )
    uri = _publish(run, written.folder)
    trained, metrics = run.read(train.STEP), run.read(evaluate.STEP)["metrics"]
    parities = {"export/parity/boxes": parity.boxes, "export/parity/scores": parity.scores}
    tracker.metrics(parities, trained["epochs"], time.time())
    digests = {"onnx": written.onnx_sha256, "manifest": written.manifest_sha256}
    tags = {f"pelagos.dev/{name}-sha256": digest for name, digest in digests.items()}
    tracker.describe({}, tags | {"pelagos.dev/package": uri})
    for name in (packages.DESCRIPTION, packages.GRAPH):
        tracker.file(written.folder / name, "model")
    tracker.flush()
    model = ModelPackage.model_validate(
        {
            "uri": uri,
            "onnxSha256": written.onnx_sha256,
            "manifestSha256": written.manifest_sha256,
            "task": run.request.task,
            "labels": list(settings.labels),
            "parity": parity,
        }
    )
    validation = {name: value for name, value in trained["metrics"].items() if name.startswith("validation/")}
    result = TrainingResult(metrics=validation | metrics, epochs=trained["epochs"], model=model)
    contract.report_result(run.report, result)
    run.places.report.push(lambda path: not path.endswith(".partial"), lambda path: int(path == "result.json"))


def _publish(run: runs.Run, folder: Path) -> str:
    """The uri of the package; on object storage it is there once its description is, which is written last.

    What is there already is written again: it may have been altered since, and a listing would not tell.
    """
    store = run.places.store
    uri = store.kept_as(folder)
    run.confirm()
    store.push(lambda path: not path.startswith("."), lambda path: int(path.endswith(f"/{packages.DESCRIPTION}")))
    return uri


def _prove(run: runs.Run, family: Family, settings: Settings, images: Sequence[Pixels]) -> Parity:
    """Compare at the confidence that users get, or lower for a model that is not that sure of anything: never vacuously."""
    from pelagos_pipelines.export import parity
    from pelagos_pipelines.serving.predictor import Detections, Predictor, Thresholds

    checkpoint = run.checkpoints / "best.pt"
    lowest = Thresholds(confidence=evaluate.LOWEST_CONFIDENCE)
    seen = [found for found in family.predict(checkpoint, images, lowest) if isinstance(found, Detections)]
    surest = max((float(found.scores.max()) for found in seen if len(found.scores)), default=0.0)
    thresholds = Thresholds(confidence=max(min(Thresholds().confidence, surest / 2), evaluate.LOWEST_CONFIDENCE))
    expected = list(family.predict(checkpoint, images, thresholds))
    graph = (run.workspace / "model.onnx").read_bytes()
    served = Predictor(graph, settings, run.request.resources.cpu).predict(images, thresholds)
    return parity.compare(expected, served, thresholds.confidence)


def _probe(run: runs.Run, family: Family, images: Sequence[Pixels]) -> tuple[Pixels, Prediction]:
    """The image with the most telling known answer, and that answer."""
    from pelagos_pipelines.serving.predictor import Classification, Thresholds

    thresholds = Thresholds()

    def worth(prediction: Prediction) -> tuple[bool, float]:
        if isinstance(prediction, Classification):
            return True, float(prediction.probabilities.max())
        clear = (abs(prediction.scores - thresholds.confidence) > PROBE_MARGIN).all()
        return bool(clear), float(prediction.scores.max(initial=0.0))

    answers = list(family.predict(run.checkpoints / "best.pt", images, thresholds))
    best = max(range(len(answers)), key=lambda index: worth(answers[index]))
    return images[best], answers[best]
