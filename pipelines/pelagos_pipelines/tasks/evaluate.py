"""The step evaluate: the best checkpoint against the test split, in metrics and figures."""

from __future__ import annotations

import time

from pelagos_pipelines.tasks import runs, train

STEP = "evaluation"
LOWEST_CONFIDENCE = 0.001
"""Average precision integrates over all confidences; below this one, ultralytics and we leave detections out."""


def evaluate(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Measure and leave ``evaluation.json`` with the metrics; metrics and figures go to MLflow.

    Raises:
        RefusedError: the dataset version cannot be read; ``failure.json`` says why.
        TrackingError: MLflow could not be reached.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        if not run.finished(STEP):
            _evaluate(run)


def _evaluate(run: runs.Run) -> None:
    from pelagos_pipelines.evaluation import figures, truth
    from pelagos_pipelines.evaluation import report as evaluation
    from pelagos_pipelines.serving.predictor import Thresholds
    from pelagos_pipelines.training.families import family_of
    from pelagos_pipelines.training.journal import Journal
    from pelagos_pipelines.training.tracking import Tracker

    family = family_of(run.request)
    tracker = Tracker(run.tracking_uri, run.tracking_run)
    trained = run.read(train.STEP)
    known = truth.read(run.with_dataset("test"), check_content=True)
    samples = known.samples("test")
    pixels = (sample.pixels() for sample in samples)
    found = list(family.predict(run.best(trained["bestSha256"]), pixels, Thresholds(confidence=LOWEST_CONFIDENCE)))
    metrics = evaluation.evaluate(samples, found, known.labels, run.figures)
    epochs = Journal(run.history, tracker).epochs
    figures.learning_curves([(epoch.number, epoch.metrics) for epoch in epochs], run.figures)
    tracker.metrics(metrics, trained["epochs"], time.time())
    for path in sorted(run.figures.glob("*.png")):
        tracker.file(path, "figures")
    tracker.flush()
    run.finish(STEP, {"metrics": metrics, "bestSha256": trained["bestSha256"]})
