"""The evidence of the stage evaluate, and its results: slices of the test split, and intervals of metrics.

With several seeds, these are for all models together: means over models, on the same resampled images for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelagos_contract import disk, sealing
from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import TASKS
from pelagos_contract.training import EvidenceFile, Interval, SlicedField
from pelagos_pipelines.steps import runs

if TYPE_CHECKING:
    from pathlib import Path

    from pelagos_contract.tasks import Task
    from pelagos_pipelines.evaluation.evidence import Evidence
    from pelagos_pipelines.evaluation.samples import Sample
    from pelagos_pipelines.serving.predictions import Prediction

FOLDER = "evaluation"
"""The folder among artifacts in MLflow."""
INTERVALS, EVIDENCE = "intervals.json", "evidence.npz"
KEPT = "evidence"
"""The folder beside model packages."""
RESULT = ("intervals", "resampling", "slices")
"""The fields of the state that the result of a training takes over."""


@dataclass(frozen=True)
class Further:
    """Additions to the stage's state: metrics, warnings, and further fields by name."""

    metrics: dict[str, float | None]
    warnings: list[str]
    state: dict[str, Any]


def of_model(
    run: runs.Run,
    samples: Sequence[Sample],
    found: Sequence[Prediction],
    labels: Sequence[str],
    metrics: Mapping[str, float | None],
    confidences: tuple[float, ...] | None = None,
) -> Further:
    """The additions for one training, whose evidence is written beside its figures. ``metrics`` are those of the whole split.

    ``confidences`` are the thresholds of classes for precision, recall and F1, if they were chosen on validation.
    """
    from pelagos_pipelines.evaluation import evidence, slices

    fields = slices.fields_of(samples)
    made = evidence.collect(run.request.task, samples, found, labels, run.request.dataset.version, fields, confidences)
    path, warnings = run.figures / EVIDENCE, []
    try:
        kept = {"evidence": {"sha256": evidence.write(made, path), "test": made.test}}
    except evidence.EvidenceError as error:
        path.unlink(missing_ok=True)
        kept = {}
        warnings.append(
            f"what the model did with each image is not kept, and no other model can be compared with it: {error}"
        )
    further = of_evidence([made], run.request.evaluation.slices or [], metrics, run.figures)
    draw(run.request.task, further, metrics, run.figures)
    return Further(further.metrics, [*warnings, *further.warnings], kept | further.state)


def of_models(run: runs.Run, trainings: Sequence[runs.Run], state: Mapping[str, Any], step: str) -> dict[str, Any]:
    """The joint ``state`` of several trainings, with the additions from their evidence; their own states are of ``step``."""
    states = [training.read(step) for training in trainings]
    if not all("evidence" in each for each in states):
        return dict(state)
    models = [read(training, each["evidence"]["sha256"]) for training, each in zip(trainings, states, strict=True)]
    further = of_evidence(models, run.request.evaluation.slices or [], state["metrics"], run.figures)
    own = {line for each in states for line in each["warnings"]}
    deviations = {name: value for name, value in state["deviations"].items() if not name.startswith("worst/")}
    return {
        **state,
        "metrics": {**state["metrics"], **further.metrics},
        "deviations": deviations,
        "warnings": [*state["warnings"], *(line for line in further.warnings if line not in own)],
        **further.state,
    }


def read(run: runs.Run, sha256: str) -> Evidence:
    """Read the evidence that the stage has left for a training.

    Raises:
        RefusedError: WORKSPACE_ALTERED.
    """
    from pelagos_pipelines.evaluation import evidence

    try:
        return evidence.read(run.figures / EVIDENCE, sha256)
    except (OSError, evidence.EvidenceError) as error:
        raise runs.altered("the evidence of the evaluation") from error


def files(run: runs.Run, shown: runs.Run) -> Iterator[Path]:
    """The files for MLflow of a run whose packaged model is from the training ``shown``."""
    for path in (run.figures / INTERVALS, shown.figures / EVIDENCE):
        if path.is_file():
            yield path


def keep(model: runs.Run, step: str) -> EvidenceFile | None:
    """Copy the evidence of a training, named by its digest, beside its package. Returns None if there is none.

    Raises:
        RefusedError: WORKSPACE_ALTERED.
    """
    told = model.read(step).get("evidence")
    if told is None:
        return None
    source, name = model.figures / EVIDENCE, told["sha256"].removeprefix("sha256:")
    path = model.store / KEPT / f"{name}.npz"
    try:
        content = source.read_bytes() if sealing.digest_of(source) == name else b""
    except OSError:
        content = b""
    if not content:
        raise runs.altered("the evidence of the evaluation")
    disk.write_atomically(path, content, parents=True)
    return EvidenceFile(uri=model.places.store.kept_as(path), sha256=told["sha256"], test=told["test"])


def of_evidence(
    models: Sequence[Evidence], fields: Sequence[str], metrics: Mapping[str, float | None], folder: Path
) -> Further:
    """Slices by ``fields``, and intervals of these and of ``metrics`` of the whole split. Writes ``INTERVALS`` to the folder."""
    from pelagos_pipelines.evaluation import resampling, slices

    sliced = slices.measured(models, fields)
    whole, told = resampling.intervals(models)
    intervals = {of_test(name): one for name, one in whole.items() if metrics.get(of_test(name)) is not None}
    found = intervals | sliced.intervals
    state = {
        "intervals": {name: one.model_dump() for name, one in found.items()},
        "resampling": told.model_dump(),
        "slices": [one.model_dump() for one in sliced.fields],
    }
    disk.write_atomically(folder / INTERVALS, json.dumps(state, indent=2, ensure_ascii=False) + "\n", parents=True)
    return Further(sliced.metrics, sliced.warnings, state)


def draw(task: Task, further: Further, metrics: Mapping[str, float | None], folder: Path) -> None:
    """Write the figure of the slices, if there are any."""
    from pelagos_pipelines.evaluation import slice_figure

    primary = TASKS[task].primary_metric
    name = of_test(primary)
    intervals = {each: Interval.model_validate(one) for each, one in further.state["intervals"].items()}
    fields = [SlicedField.model_validate(one) for one in further.state["slices"]]
    whole = slice_figure.Bar("all images", 0, metrics.get(name), intervals.get(name))
    by_field = slice_figure.rows(further.metrics, intervals, fields)
    slice_figure.draw(primary, whole, by_field, folder)
