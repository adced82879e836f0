"""Metrics of slices of the test split: the images with one value of a field. Independent of tasks.

A slice is measured like the whole split, with its own confidence where the task chooses one. Images with an unknown value are
also a slice, but never count as the worst one, since it is not known what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_contract import metrics as names
from pelagos_contract.tasks import TASKS
from pelagos_contract.training import Interval, Slice, SlicedField
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.evaluation import evidence as counting
from pelagos_pipelines.evaluation import fields as grouping
from pelagos_pipelines.evaluation import resampling
from pelagos_pipelines.evaluation.evidence import Evidence
from pelagos_pipelines.evaluation.samples import Sample

_NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Sliced:
    """Metrics and intervals by their names, the slices of each field, and warnings for readers."""

    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    fields: list[SlicedField]
    warnings: list[str]


def fields_of(samples: Sequence[Sample]) -> dict[str, tuple[str | None, ...]]:
    """All fields by which images can be grouped, for evidence."""
    files = tuple(sample.source or sample.name for sample in samples)
    return {field: grouping.values(samples, field) for field in grouping.known(samples)} | {resampling.IMAGE: files}


def measured(models: Sequence[Evidence], fields: Sequence[str]) -> Sliced:
    """The slices of one model, or of several with the same test: then metrics are means, None if one of them has none."""
    found, primary = Sliced({}, {}, [], []), TASKS[models[0].task].primary_metric
    for field in fields:
        parts = _parts(models, field)
        slices = []
        for value, part in parts.items():
            weights: Any = np.ones((1, len(part[0].images)), np.int32)
            each = [resampling.known(counting.counted(model, weights)) for model in part]
            found.metrics.update({names.of_slice(field, value, name): _mean(each, name) for name in each[0]})
            slices.append(_slice(found, field, value, part))
        found.fields.append(_judged(found, field, slices, primary))
        found.warnings.extend(_warnings(found, found.fields[-1]))
    return found


def worst_of(metrics: Mapping[str, float | None], field: str, slices: Sequence[Slice]) -> dict[str, float | None]:
    """The worst value over the known slices for each metric that is not a setting; None if no slice has it."""
    told = [name for each in metrics if (name := names.parsed(each)) is not None]
    measures = dict.fromkeys(name.metric for name in told if name.kind is names.Kind.SLICE and name.field == field)
    found: dict[str, float | None] = {}
    for metric in measures:
        each = [metrics[names.of_slice(field, one.value, metric)] for one in slices if one.value is not None]
        values = [value for value in each if value is not None]
        if metric not in names.SETTINGS:
            found[names.of_worst(field, metric)] = names.worst(metric, values) if values else None
    return found


def _parts(models: Sequence[Evidence], field: str) -> dict[str | None, list[Evidence]]:
    """The evidence by value, sorted, with the unknown value last."""
    column = models[0].fields[field]
    order = sorted({value for value in column if value is not None})
    places: dict[str | None, list[int]] = {value: [] for value in order}
    for place, value in enumerate(column):
        places.setdefault(value, []).append(place)
    return {value: [model.part(chosen) for model in models] for value, chosen in places.items()}


def _slice(found: Sliced, field: str, value: str | None, part: Sequence[Evidence]) -> Slice:
    """Describe a slice; intervals are only computed for the task's primary metric."""
    primary = TASKS[part[0].task].primary_metric
    intervals, told = resampling.intervals(part, field, names.value_name(value))
    images, objects = len(part[0].images), sum(part[0].objects)
    if is_of_one_deployment(field, part[0].fields.get("deployment", ())):
        return Slice(value=value, images=images, objects=objects, by="deployment", groups=1)
    if primary in intervals:
        found.intervals[names.of_slice(field, value, primary)] = intervals[primary]
    return Slice(value=value, images=images, objects=objects, by=told.by, groups=told.groups)


def is_of_one_deployment(field: str, deployments: Sequence[str | None]) -> bool:
    """Whether the images with one value of ``field`` are known to be of a single deployment, and therefore get no interval: their
    variation does not show how images of another deployment would vary.
    """
    return field not in {"deployment", "group"} and len({*deployments}) == 1 and None not in deployments


def _judged(found: Sliced, field: str, slices: list[Slice], metric: str) -> SlicedField:
    worst = worst_of(found.metrics, field, slices)
    found.metrics.update(worst)
    least = worst[names.of_worst(field, metric)]
    which = next(
        (
            one.value
            for one in slices
            if one.value is not None
            and least is not None
            and found.metrics[names.of_slice(field, one.value, metric)] == least
        ),
        None,
    )
    return SlicedField(field=field, metric=metric, slices=slices, worst=which)


def _warnings(found: Sliced, told: SlicedField) -> list[str]:
    lines = []
    single = [one.value or _NOT_KNOWN for one in told.slices if one.images == 1]
    if single:
        lines.append(
            f"slices of one image: {told.field} {format_names(single)}; their metrics say next to nothing, and have no interval"
        )
    unknown = next((one for one in told.slices if one.value is None), None)
    if unknown is not None:
        value = found.metrics[names.of_slice(told.field, None, told.metric)]
        least = found.metrics[names.of_worst(told.field, told.metric)]
        line = f"{told.field} is not known of {unknown.images} images of the test split, which are a slice of their own"
        if value is not None and least is not None and names.worst(told.metric, [value, least]) != least:
            line += f": with {told.metric} {value:.3f} it is worse than the worst slice, which has {least:.3f}"
        lines.append(line)
    return lines


def _mean(each: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    found = [value for one in each if (value := one[name]) is not None]
    return float(np.mean(found)) if len(found) == len(each) else None
