"""The stage evaluate: measures the best checkpoint on the test split, with metrics and figures."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pelagos_contract import event_files as names
from pelagos_contract.progress import SeedState, Stage
from pelagos_pipelines.steps import leaving_out, resampled, runs, search, seeds, trackers, train

if TYPE_CHECKING:
    from pelagos_contract.splits import Split
    from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
    from pelagos_pipelines.serving.geometry import Pixels
    from pelagos_pipelines.serving.predictions import Prediction
    from pelagos_pipelines.steps.telling import Telling
    from pelagos_pipelines.training.tracking import Tracker

STEP = "evaluation"
MEASUREMENT = "measurement"
LABELS = "labels"
"""The folder of doubts among figures, and among artifacts."""
CALIBRATION = "calibration.json"
"""The name of evaluation.calibrating's file."""
MOST_HELD_OUT = 10_000
"""The most images of validation that are predicted again, for doubts and calibration."""
LOWEST_CONFIDENCE = 0.001
"""Average precision integrates over all confidences; below this one, ultralytics and we leave detections out."""


def evaluate(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Evaluate, and write ``evaluation.json`` with the metrics. Metrics and figures also go to MLflow.

    Raises:
        RefusedError: the dataset version cannot be read; ``failure.json`` says why.
        TrackingError: MLflow could not be reached.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        stage(run)


def stage(run: runs.Run) -> None:
    """Like `evaluate`, as one stage of a step."""
    _judge(search.chosen(run))
    _judge_without(run)


def _judge(run: runs.Run) -> None:
    """Evaluate the model of every seed on the test split."""
    trainings, is_new = seeds.trainings(run), False
    if all(_stands(each, STEP) for each in (*trainings, run)):
        return
    told = seeds.Told(run, trainings)
    run.telling.enter(Stage.EVALUATION)
    for training in trainings:
        with seeds.named(training):
            if not _stands(training, MEASUREMENT):
                _measure(training)
                is_new = True
            if not _stands(training, STEP):
                _tell(training, training)
        told.becomes(training, SeedState.EVALUATED)
    if len(trainings) > 1:
        if is_new or not _stands(run, MEASUREMENT):
            together = seeds.evaluated(run, time.time())
            run.finish(MEASUREMENT, resampled.of_models(run, trainings, together, MEASUREMENT))
        _tell(run, seeds.model_of(run))


def _judge_without(run: runs.Run) -> None:
    """Evaluate the models that were trained without one group each on that group, if requested."""
    trainings = leaving_out.trainings(run)
    if not trainings or (leaving_out.stands(run, trainings) and leaving_out.RESULT in run.read(STEP)):
        return
    told, truth = leaving_out.Told(run, trainings), leaving_out.read(run)
    run.telling.enter(Stage.EVALUATION)
    for training in trainings:
        with seeds.named(training):
            if not _stands(training, MEASUREMENT):
                _measure(training, truth.of(training, run))
            if not _stands(training, STEP):
                _tell(training, training)
        told.becomes(training, SeedState.EVALUATED)
    if not leaving_out.stands(run, trainings):
        run.finish(leaving_out.OUTCOME, leaving_out.outcome(run, trainings, truth, time.time()))
    found = run.read(leaving_out.OUTCOME)
    tracker = run.tracker()
    _tell_figures(tracker, found, run.read(train.STEP)["epochs"])
    tracker.flush()
    run.finish(STEP, leaving_out.joined(run.read(STEP), found))


def _stands(run: runs.Run, step: str) -> bool:
    """Whether the state exists and belongs to the present checkpoint: an altered one was trained again."""
    return run.finished(step) and run.read(step).get("bestSha256") == run.read(train.STEP).get("bestSha256")


def _measure(run: runs.Run, known: GroundTruth | None = None) -> None:
    """Measure on the test split of the version, or on that of ``known``."""
    from pelagos_pipelines.evaluation import calibrating, counts, figures, ground_truth
    from pelagos_pipelines.evaluation import report as evaluation
    from pelagos_pipelines.evaluation.tasks import TASKS
    from pelagos_pipelines.serving.predictions import Thresholds
    from pelagos_pipelines.training.families import family_of
    from pelagos_pipelines.training.tracking import Tracker
    from pelagos_pipelines.training.training_history import TrainingHistory

    family = family_of(run.request)
    trained = run.read(train.STEP)
    validated = known is None  # models without one group each are not used to find doubtful labels
    if known is None:
        known = ground_truth.read(run.with_dataset("validation", "test"), check_content=True)
    samples = known.samples("test")
    others_held_out = _some(known.samples("validation")) if validated else ()
    held_out: dict[Split, Sequence[Sample]] = {"test": samples, "validation": others_held_out}
    pixels = _pixels([sample for some in held_out.values() for sample in some], run.telling)
    limit = run.request.evaluation.max_detections
    strategy = TASKS.named(run.request.task)
    confidence = LOWEST_CONFIDENCE if strategy.confidence is None else strategy.confidence
    thresholds = Thresholds(confidence=confidence, max_detections=limit)
    predictions = iter(family.predict(run.best(trained["bestSha256"]), pixels, thresholds))
    found = list(itertools.islice(predictions, len(samples)))
    # Faint detections are the majority, and only metrics need them. For doubts on validation they are left out.
    others = [strategy.without_faint(one) for one in predictions]
    sure = calibrating.choose(run.request.evaluation, strategy, known.labels, held_out["validation"], others)
    told, others = sure.told(found), sure.told(others)
    measured = evaluation.evaluate(samples, told, known.labels, run.figures)
    metrics = measured.metrics | calibrating.measured(sure, strategy, samples, found, run.figures)
    limits = strategy.limits(known, told, measured.metrics, limit)
    further = resampled.of_model(run, samples, told, known.labels, metrics, sure.confidences)
    warnings = [
        *measured.warnings,
        *sure.notes,
        *further.warnings,
        *limits,
        *_doubted(run, known.labels, held_out, [*told, *others]),
    ]
    if (tile := known.preprocessing.tile) is not None:
        warnings.append(
            f"large images of the dataset are cut into tiles of {tile.size} pixels: metrics are of tiles, and an object that"
            " several tiles show counts in each"
        )
    epochs = TrainingHistory(run.history, Tracker("", "")).epochs
    curves, planned = [(epoch.number, epoch.metrics) for epoch in epochs], run.request.hyperparameters.epochs
    figures.learning_curves(curves, run.figures, trained["bestEpoch"], planned)
    # Kept with its time before it is sent to MLflow, so that a repeated step sends the same points, and measures nothing again.
    state = {"metrics": {**metrics, **further.metrics}, "warnings": warnings, "at": time.time()}
    state |= {"counts": counts.of(known), "bestSha256": trained["bestSha256"], "calibration": sure.document()}
    run.finish(MEASUREMENT, state | further.state)


def _some(samples: Sequence[Sample]) -> Sequence[Sample]:
    """At most ``MOST_HELD_OUT`` samples, evenly spread."""
    return samples[:: max(1, math.ceil(len(samples) / MOST_HELD_OUT))]


def _doubted(
    run: runs.Run, labels: Sequence[str], held_out: Mapping[Split, Sequence[Sample]], found: Sequence[Prediction]
) -> list[str]:
    """Write the labels that the model doubts to files, and return a warning with their number. No training fails for this."""
    from pelagos_pipelines.evaluation import doubt_report
    from pelagos_pipelines.evaluation.tasks import TASKS

    samples = [sample for some in held_out.values() for sample in some]
    dataset, task = run.request.dataset, run.request.task
    lineage = {"dataset": dataset.name, "version": dataset.version, "task": task.value}
    try:
        doubts = TASKS.named(task).doubtful(samples, found, labels)
        doubt_report.write(doubts, held_out, labels, run.figures / LABELS, **lineage)
    except Exception:  # these files are for people; an error in them must not fail the metrics
        logging.getLogger(__name__).exception("What the model doubts could not be written")
        return []
    if not doubts:
        return []
    count = sum(len(sample.class_ids) for sample in samples)
    where = f"{LABELS}/{doubt_report.LIST} and {doubt_report.SHEET} of its MLflow run"
    return [
        f"{len(doubts)} of {count} labels of validation and test are doubted by the model, and may be wrong: see {where}"
    ]


def _pixels(samples: Sequence[Sample], telling: Telling) -> Iterator[Pixels]:
    """The images, each read when it is needed."""
    for number, sample in enumerate(samples):
        telling.count(number, len(samples))
        yield sample.pixels()


def _tell_wandb(run: runs.Run, tracker: Tracker, known: Mapping[str, float]) -> list[str]:
    """Report the whole training to Weights & Biases if requested. Returns warnings about failures."""
    from pelagos_pipelines.training.tracking import Tracker
    from pelagos_pipelines.training.training_history import TrainingHistory

    wandb = trackers.wandb_of(run, train.parameters(run.request) | run.read(train.STEP).get("applied", {}))
    epochs = TrainingHistory(run.history, Tracker("", "")).epochs
    return wandb.finish(tracker, epochs, known, sorted(run.figures.glob("*.png")))


def _tell_figures(tracker: Tracker, measured: Mapping[str, Any], epochs: int) -> dict[str, float]:
    """Send the metrics and deviations of the state ``measured``, and return the metrics that are known."""
    known = {name: value for name, value in measured["metrics"].items() if value is not None}
    deviations = {f"deviation/{name}": value for name, value in measured.get("deviations", {}).items()}
    tracker.metrics(known | deviations, epochs, measured["at"])
    return known


def _tell(run: runs.Run, shown: runs.Run) -> None:
    """Send the measurement to MLflow, with the figures of the training ``shown``.

    Repeated attempts send the same time, so that each point is there once.
    """
    from pelagos_pipelines.training import event_files

    tracker = run.tracker()
    measured = run.read(MEASUREMENT)
    epochs = run.read(train.STEP)["epochs"]
    known = _tell_figures(tracker, measured, epochs)
    figures = sorted(shown.figures.glob("*.png"))
    for path in figures:
        tracker.file(path, "figures")
    for path in shown.figures.glob(CALIBRATION):
        tracker.file(path, "figures")
    events = run.events / names.EVALUATION
    event_files.write(events, event_files.of_evaluation(known, figures, epochs, measured["at"]))
    tracker.file(events, names.FOLDER)
    for path in resampled.files(run, shown):
        tracker.file(path, resampled.FOLDER)
    for path in sorted((shown.figures / LABELS).glob("doubtful-*")):
        tracker.file(path, LABELS)
    if run.part is not None:
        tracker.end("FINISHED")
    else:
        trackers.told(run.meter, tracker)
    if run is shown:
        measured = {**measured, "warnings": [*measured["warnings"], *_tell_wandb(run, tracker, known)]}
    # The stage counts as finished only once MLflow has everything, because later steps do not send it again.
    tracker.flush()
    run.finish(STEP, {**measured, "warnings": [*measured["warnings"], *tracker.warnings]})
