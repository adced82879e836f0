"""Evaluation figures of a model, from the status of the TrainingRun that produced it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos_contract import metrics
from pelagos_contract.tasks import TASKS
from pelagos_hub.catalogue import reading

_MOST_METRICS, _MOST_PARTS = 60, 200


@dataclass(frozen=True)
class Figure:
    """A metric on images that the training did not see. ``low`` and ``high`` are the bounds of its interval, if it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    level: str = ""
    deviation: float | None = None
    over: str = ""
    """What ``deviation`` is the spread over: seeds or groups."""

    @property
    def words(self) -> str:
        """The value with its interval or, without one, its spread."""
        if self.low is not None and self.high is not None:
            return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"
        return f"{self.value:.3g}" + (f" ± {self.deviation:.2g}" if self.deviation is not None else "")


@dataclass(frozen=True)
class Part:
    """The figure of the images that have one value of a field."""

    value: str
    figure: float | None
    images: int | None


@dataclass(frozen=True)
class Group:
    """Figures by one field: of groups that a model did not see, worst first, or of the worst slice only."""

    field: str
    metric: str
    parts: tuple[Part, ...]
    mean: Figure | None
    total: int
    """Number of values of the field."""
    unseen: bool
    """Whether each figure is that of a model trained without this group."""


@dataclass(frozen=True)
class Numbers:
    """All figures of a model; ``primary`` is the primary metric of its task."""

    primary: Figure | None
    overall: tuple[Figure, ...]
    groups: tuple[Group, ...]
    how: str
    """How the intervals were computed, or why there are none."""

    @property
    def unseen(self) -> Group | None:
        """The figures on groups that the model was not trained with, such as sites; None without any."""
        return next((group for group in self.groups if group.unseen and group.mean), None)


def of(status: Mapping[str, Any], task: str) -> Numbers:
    """The figures in the status of a TrainingRun; those that are not numbers are left out."""
    overall = tuple(_overall(status, task))
    name = next((each.primary_metric for each in TASKS.values() if each.task.value == task), "")
    primary = next((figure for figure in overall if figure.name == name), None)
    return Numbers(primary, overall, tuple(_groups(status)), _how(status))


def _overall(status: Mapping[str, Any], task: str) -> list[Figure]:
    bounds, deviations = reading.at(status, "intervals"), reading.at(status, "deviations")
    order = [
        name for each in TASKS.values() if each.task.value == task for name in (each.primary_metric, *each.metrics)
    ]
    found = []
    for name, told in reading.at(status, "metrics").items():
        short, value = name.removeprefix(metrics.TEST), reading.number(told)
        if not name.startswith(metrics.TEST) or "/" in short or value is None:
            continue
        interval = reading.at(bounds, name)
        found.append(
            Figure(
                reading.line(short, 100),
                value,
                reading.number(interval.get("low")),
                reading.number(interval.get("high")),
                reading.line(interval.get("level"), 10),
                reading.number(deviations.get(name)),
                "seeds",
            )
        )
    place = {name: number for number, name in reversed(list(enumerate(order)))}
    return sorted(found, key=lambda figure: (place.get(figure.name, len(order)), figure.name))[:_MOST_METRICS]


def _groups(status: Mapping[str, Any]) -> list[Group]:
    found = []
    told = reading.at(status, "leaveOneOut")
    metric = reading.line(told.get("metric"), 100)
    if told and metric:
        parts = [
            Part(reading.line(each.get("value")), reading.number(each.get("metric")), reading.count(each.get("images")))
            for each in reading.each(told.get("groups"), _MOST_PARTS)
        ]
        parts.sort(key=lambda part: (part.figure is None, part.figure or 0.0, part.value))
        mean, spread = reading.number(told.get("mean")), reading.number(told.get("deviation"))
        figure = Figure(metric, mean, deviation=spread, over="groups") if mean is not None else None
        total = len(told.get("groups") or ())
        found.append(Group(reading.line(told.get("field"), 100), metric, tuple(parts), figure, total, unseen=True))
    for each in reading.each(status.get("slices"), _MOST_PARTS):
        worst = reading.at(each, "worst")
        name, value = reading.line(worst.get("metric"), 100), reading.number(worst.get("figure"))
        if name and value is not None:
            part = Part(reading.line(worst.get("value")), value, reading.count(worst.get("images")))
            total = reading.count(each.get("slices")) or 1
            found.append(Group(reading.line(each.get("field"), 100), name, (part,), None, total, unseen=False))
    return found


def _how(status: Mapping[str, Any]) -> str:
    told = reading.at(status, "resampling")
    why = reading.line(told.get("why"))
    if why:
        return f"No intervals: {why}."
    groups, samples, by = (reading.count(told.get("groups")), reading.count(told.get("samples")), told.get("by"))
    if not groups or not samples:
        return "No intervals were computed: how much is chance is unknown."
    unit = "images" if by == "image" else f"groups by {reading.line(by, 100)}"
    return f"Intervals are by bootstrap over {groups} {unit} of the test split, drawn {samples} times."
