"""The stage export: writes the best checkpoint as a proven model package, and the result of the whole training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos_contract import sealing
from pelagos_contract.metrics import DIFFERENCE
from pelagos_contract.progress import Stage
from pelagos_contract.tags import MANIFEST_SHA256_TAG, ONNX_SHA256_TAG, PACKAGE_TAG
from pelagos_contract.training import ModelPackage, Parity, TrainingResult
from pelagos_pipelines.serving import packages
from pelagos_pipelines.steps import (
    comparing,
    documents,
    evaluate,
    leaving_out,
    resampled,
    runs,
    search,
    seeds,
    trackers,
    train,
)

if TYPE_CHECKING:
    from pelagos_pipelines.export.package import Written
    from pelagos_pipelines.export.tasks.strategy import Strategy
    from pelagos_pipelines.serving.geometry import Fitted, Pixels
    from pelagos_pipelines.serving.predictions import Prediction, Raw, Settings, Thresholds
    from pelagos_pipelines.serving.predictor import Predictor
    from pelagos_pipelines.training.families import Family

PARITY_IMAGES = 16
COMPARED = 300
"""The most detections of an image whose decoding is compared with the training framework's."""
KNOWN = 1_000
"""The most detections in a package's known answer."""


def export(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Export, prove parity, write the package below ``store`` and ``result.json`` into ``report``.

    Raises:
        RefusedError: PARITY_FAILED, DISK_FULL; ``failure.json`` says what differs.
        TrackingError: MLflow could not be reached.
    """
    with runs.running(request, data_root, store, report, workspace, tracking_uri, tracking_run) as run:
        stage(run)


def stage(run: runs.Run) -> None:
    """Like `export`, as one stage of a step."""
    finished = _finished(run)
    if finished is None:
        run.telling.enter(Stage.EXPORT)
        _export(run)
    elif (renewed := comparing.renewed(run, finished)) != finished:
        runs.leave(run.places.report, renewed)
    else:
        runs.confirm(run.places.report, finished)


def _finished(run: runs.Run) -> TrainingResult | None:
    """The result if an attempt of this run has left one."""
    try:
        found = sealing.opened(sealing.document(run.report / "result.json"))
        return TrainingResult.model_validate(found)
    except (OSError, ValueError):
        return None


def _export(run: runs.Run) -> None:
    tracker = run.tracker()
    trained, evaluated = run.read(train.STEP), run.read(evaluate.STEP)
    validation = {name: value for name, value in trained["metrics"].items() if name.startswith("validation/")}
    metrics: dict[str, float | None] = validation | evaluated["metrics"]
    warnings = [*trained.get("warnings", ()), *evaluated.get("warnings", ())]
    run.measured.update(metrics=metrics, warnings=warnings)  # valid even if the export fails
    # The packed checkpoint must be the measured one: both stages name it, and `best` compares the file.
    if evaluated["bestSha256"] != trained["bestSha256"]:
        raise runs.altered("the checkpoint of the best epoch")
    packed = _pack(run, seeds.model_of(run).best(trained["bestSha256"]))
    evidence = resampled.keep(seeds.model_of(run), evaluate.STEP)
    written, parity = packed.written, packed.parity
    described = documents.write(run, written, packed.labels, warnings, tracker)
    uri = _publish(run, written.folder)
    parities = {"export/parity/boxes": parity.boxes, "export/parity/scores": parity.scores}
    # Sent with the time of the evaluation, because with a new time a repeated step would add the points again. States of earlier
    # releases have no time.
    metrics = metrics | {DIFFERENCE: parity.scores}
    tracker.metrics(parities | {DIFFERENCE: parity.scores}, trained["epochs"], evaluated.get("at", time.time()))
    digests = {ONNX_SHA256_TAG: written.onnx_sha256, MANIFEST_SHA256_TAG: written.manifest_sha256}
    tracker.describe({}, digests | {PACKAGE_TAG: uri})
    for name in (packages.DESCRIPTION, packages.GRAPH):
        tracker.file(written.folder / name, "model")
    cost = trackers.told(run.meter, tracker)
    # The result comes last: its readers may serve the package, and register it from MLflow, at once.
    tracker.flush()
    model = ModelPackage.model_validate(
        {
            "uri": uri,
            "onnxSha256": written.onnx_sha256,
            "manifestSha256": written.manifest_sha256,
            "task": run.request.task,
            "labels": list(packed.labels),
            "parity": parity,
        }
    )
    kept = ("deviations", "seeds", *resampled.RESULT, leaving_out.RESULT)
    told = {name: evaluated[name] for name in kept if name in evaluated}
    result = TrainingResult.model_validate(
        {"metrics": metrics, "epochs": trained["epochs"], "model": model, "cost": cost}
        | {"warnings": [*warnings, *described.warnings], "evidence": evidence}
        | {"champions": comparing.comparisons(run, evidence)}
        | {"seed": trained.get("seed"), "search": search.told(run), "documents": described.documents}
        | told
    )
    runs.leave(run.places.report, result)


def _pack(run: runs.Run, checkpoint: Path) -> _Packed:
    """Export the checkpoint, prove that its graph gives the same answers, and write the package."""
    from pelagos_pipelines.evaluation import ground_truth
    from pelagos_pipelines.export import package
    from pelagos_pipelines.export.parity import require_labels
    from pelagos_pipelines.serving.predictions import Scaling, Thresholds
    from pelagos_pipelines.serving.predictor import Predictor
    from pelagos_pipelines.training.families import family_of

    family = family_of(run.request)
    onnx = run.places.scratch / "model.onnx"
    known = ground_truth.read(run.with_dataset("test"))
    tile = known.preprocessing.tile
    cut = None if tile is None else (tile.size, tile.overlap)
    resize = known.preprocessing.resize
    longest = None if resize is None else resize.longest
    color = known.preprocessing.color
    settings = replace(family.export(checkpoint, onnx), color=color, tile=cut, longest=longest)
    chosen = seeds.model_of(run).read(evaluate.MEASUREMENT).get("calibration") or {}
    scaling = None if chosen.get("scaling") is None else Scaling(**chosen["scaling"])
    told = replace(settings, scaling=scaling, confidences=chosen.get("thresholds"))
    samples = known.samples("test")
    images = [sample.stored() for sample in samples[:: max(len(samples) // PARITY_IMAGES, 1)][:PARITY_IMAGES]]
    exported = _Exported(family, checkpoint, Predictor(onnx.read_bytes(), settings, run.request.resources.cpu), images)
    require_labels(known.labels, settings.labels)
    parity = _prove(exported)
    limit = run.request.evaluation.max_detections
    probe, answer, outputs = _probe(exported, told, Thresholds(max_detections=min(limit, KNOWN)))
    written = package.write(
        package.Content(
            family=family.DESCRIPTION.name,
            architecture=run.request.model.architecture,
            dataset={"name": run.request.dataset.name, "version": run.request.dataset.version},
            settings=told,
            onnx=onnx,
            parity=parity,
            probe=probe,
            known=answer,
            outputs=outputs,
            thresholds=Thresholds(max_detections=limit),
        ),
        run.store,
    )
    return _Packed(written, parity, settings.labels)


@dataclass(frozen=True)
class _Packed:
    """A package in the store's folder, the parity of its graph with the checkpoint, and the classes by index."""

    written: Written
    parity: Parity
    labels: Sequence[str]


def _publish(run: runs.Run, folder: Path) -> str:
    """Publish the package and return its uri. On object storage it exists once its description does, which is written last.

    Existing files are written again: they may have been altered since, which a listing would not show.
    """
    store = run.places.store
    uri = store.kept_as(folder)
    # A process whose run was taken over by another machine must not write beside it.
    run.confirm()
    store.push(lambda path: not path.startswith("."), lambda path: int(path.endswith(f"/{packages.DESCRIPTION}")))
    return uri


@dataclass(frozen=True)
class _Exported:
    """A checkpoint, the predictor of the graph exported from it, and stored images to compare them on."""

    family: Family
    checkpoint: Path
    predictor: Predictor
    images: Sequence[Pixels]
    _answers: dict[Thresholds, list[tuple[Raw, Prediction]]] = field(default_factory=dict)

    def answers(self, thresholds: Thresholds) -> list[tuple[Raw, Prediction]]:
        """The checkpoint's raw outputs and predictions for the images, computed once for each set of thresholds."""
        if not self.rules.has_thresholds:
            thresholds = type(thresholds)()
        if thresholds not in self._answers:
            self._answers[thresholds] = list(self.family.prove(self.checkpoint, self._shown(), thresholds))
        return self._answers[thresholds]

    def _shown(self) -> Iterator[Pixels]:
        """The images as training saw them, with colours corrected; the predictor corrects them by itself."""
        from pelagos_pipelines.serving import color

        return (color.corrected(image, self.predictor.settings.color) for image in self.images)

    @property
    def rules(self) -> Strategy:
        """The task's strategy for the export."""
        from pelagos_pipelines.export.tasks import TASKS

        return TASKS.named(self.predictor.settings.task)

    @cached_property
    def fitted(self) -> list[Fitted]:
        """The images on their canvases."""
        return [self.predictor.fitted(image) for image in self.images]

    @cached_property
    def outputs(self) -> list[Raw]:
        """The graph's outputs for the images."""
        return self.predictor.outputs(self.fitted)


def _prove(exported: _Exported) -> Parity:
    """Compare the outputs of both networks, and the decoding of the framework's, at the confidence that users get.

    For a model that is less sure of everything, a lower confidence is used, so that the comparison is never empty.
    """
    from pelagos_pipelines.export import parity
    from pelagos_pipelines.serving.predictions import Thresholds

    settings = exported.predictor.settings
    lowest = exported.answers(Thresholds(confidence=evaluate.LOWEST_CONFIDENCE, max_detections=COMPARED))
    surest = max((exported.rules.surest(found) for _, found in lowest), default=0.0)
    confidence = max(min(Thresholds().confidence, surest / 2), evaluate.LOWEST_CONFIDENCE)
    thresholds = Thresholds(confidence=confidence, max_detections=COMPARED)
    answers = exported.answers(thresholds)
    raws = [raw for raw, _ in answers]
    noisy = exported.predictor.outputs([parity.with_noise(image) for image in exported.fitted])
    proven = parity.compare_outputs(
        raws, exported.outputs, noisy, task=settings.task, labels=settings.labels, head=settings.head
    )
    decoded = [
        exported.predictor.decode(raw, image, thresholds) for raw, image in zip(raws, exported.fitted, strict=True)
    ]
    parity.compare([found for _, found in answers], decoded, confidence)
    return proven


def _probe(exported: _Exported, told: Settings, general: Thresholds) -> tuple[Pixels, Prediction, dict[str, Any]]:
    """The image with the most informative known answer, that answer by the settings ``told``, and the outputs it comes from."""
    from pelagos_pipelines.export import probes

    thresholds = general.of(told.labels, told.confidences)
    asked = exported.predictor.task.asked(thresholds, told.scaling)
    # The training framework has only one threshold for all classes.
    asked = replace(asked, confidence=min(asked.by_class or (asked.confidence,)), by_class=None)
    is_usual = told.scaling is None and thresholds.by_class is None
    candidates = [
        probes.Candidate(image, raw, output, known if is_usual else known.told(thresholds, told.scaling))
        for image, output, (raw, known) in zip(exported.fitted, exported.outputs, exported.answers(asked), strict=True)
    ]
    chosen, outputs = probes.choose(exported.predictor, candidates, thresholds)
    return exported.images[chosen], exported.rules.known(candidates[chosen].known), outputs
