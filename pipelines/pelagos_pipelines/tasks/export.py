"""The step export: the best checkpoint to a proven model package, and the report of the whole training."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos_pipelines import sealing
from pelagos_pipelines.contract import ModelPackage, Parity, Task, TrainingResult
from pelagos_pipelines.serving import packages
from pelagos_pipelines.tasks import evaluate, runs, train

if TYPE_CHECKING:
    from pelagos_pipelines.serving.geometry import Pixels
    from pelagos_pipelines.serving.predictor import Prediction, Settings, Thresholds
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
        finished = _finished(run)
        if finished is None:
            _export(run)
        else:
            runs.confirm(run.places.report, finished)


def _finished(run: runs.Run) -> TrainingResult | None:
    """The result, when an attempt of this run has left it already."""
    try:
        told = sealing.opened(json.loads((run.report / "result.json").read_bytes()))
        return TrainingResult.model_validate(told)
    except (OSError, ValueError):
        return None


def _export(run: runs.Run) -> None:
    from pelagos_pipelines.evaluation import truth
    from pelagos_pipelines.export import package
    from pelagos_pipelines.training.families import family_of
    from pelagos_pipelines.training.tracking import Tracker

    family = family_of(run.request)
    tracker = Tracker(run.tracking_uri, run.tracking_run)
    trained, evaluated = run.read(train.STEP), run.read(evaluate.STEP)
    if evaluated["bestSha256"] != trained["bestSha256"]:
        raise runs.altered("the checkpoint of the best epoch")
    checkpoint = run.best(trained["bestSha256"])
    onnx = run.places.scratch / "model.onnx"
    settings = family.export(checkpoint, onnx)
    samples = truth.read(run.with_dataset("test")).samples("test")
    images = [sample.pixels() for sample in samples[:: max(len(samples) // PARITY_IMAGES, 1)][:PARITY_IMAGES]]
    exported = _Exported(family, checkpoint, onnx, settings, images)
    parity = _prove(run, exported)
    probe, known = _probe(exported)
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
    metrics = evaluated["metrics"]
    parities = {"export/parity/boxes": parity.boxes, "export/parity/scores": parity.scores}
    # With a time of its own it would stand in MLflow twice when this step is repeated. Earlier releases have left none.
    tracker.metrics(parities, trained["epochs"], evaluated.get("at", time.time()))
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
    warnings = [*trained.get("warnings", ()), *evaluated.get("warnings", ())]
    result = TrainingResult(metrics=validation | metrics, epochs=trained["epochs"], model=model, warnings=warnings)
    runs.leave(run.places.report, result)


def _publish(run: runs.Run, folder: Path) -> str:
    """The uri of the package; on object storage it is there once its description is, which is written last.

    What is there already is written again: it may have been altered since, and a listing would not tell.
    """
    store = run.places.store
    uri = store.kept_as(folder)
    run.confirm()
    store.push(lambda path: not path.startswith("."), lambda path: int(path.endswith(f"/{packages.DESCRIPTION}")))
    return uri


@dataclass(frozen=True)
class _Exported:
    """A checkpoint, the graph that was made of it, and images to compare them on."""

    family: Family
    checkpoint: Path
    onnx: Path
    settings: Settings
    images: Sequence[Pixels]
    _answers: dict[Thresholds, list[Prediction]] = field(default_factory=dict)

    def answers(self, thresholds: Thresholds) -> list[Prediction]:
        """What the checkpoint says to the images; they go through it once for each of the thresholds."""
        if self.family.TASK is Task.CLASSIFICATION:  # no thresholds apply
            thresholds = type(thresholds)()
        if thresholds not in self._answers:
            self._answers[thresholds] = list(self.family.predict(self.checkpoint, self.images, thresholds))
        return self._answers[thresholds]


def _prove(run: runs.Run, exported: _Exported) -> Parity:
    """Compare at the confidence that users get, or lower for a model that is not that sure of anything: never vacuously."""
    from pelagos_pipelines.export import parity
    from pelagos_pipelines.serving.predictor import Detections, Predictor, Thresholds

    lowest = Thresholds(confidence=evaluate.LOWEST_CONFIDENCE)
    seen = [found for found in exported.answers(lowest) if isinstance(found, Detections)]
    surest = max((float(found.scores.max()) for found in seen if len(found.scores)), default=0.0)
    thresholds = Thresholds(confidence=max(min(Thresholds().confidence, surest / 2), evaluate.LOWEST_CONFIDENCE))
    graph = exported.onnx.read_bytes()
    served = Predictor(graph, exported.settings, run.request.resources.cpu).predict(exported.images, thresholds)
    return parity.compare(exported.answers(thresholds), served, thresholds.confidence)


def _probe(exported: _Exported) -> tuple[Pixels, Prediction]:
    """The image with the most telling known answer, and that answer."""
    from pelagos_pipelines.serving.predictor import Classification, Thresholds

    thresholds = Thresholds()

    def worth(prediction: Prediction) -> tuple[bool, float]:
        if isinstance(prediction, Classification):
            return True, float(prediction.probabilities.max())
        clear = (abs(prediction.scores - thresholds.confidence) > PROBE_MARGIN).all()
        return bool(clear), float(prediction.scores.max(initial=0.0))

    answers = exported.answers(thresholds)
    best = max(range(len(answers)), key=lambda index: worth(answers[index]))
    return exported.images[best], answers[best]
